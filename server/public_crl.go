package server

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/ca"
)

// crlMaxAge is how long a cache may keep a list without asking whether there is
// a newer one.
const crlMaxAge = time.Minute

// The names of what is published of an authority beside its shards: all that it
// revoked in one list, and which lists there are.
const (
	wholeName    = "all"
	manifestName = "manifest.json"
)

func (s *Server) getCRL(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("list") == manifestName {
		s.getManifest(w, r)
		return
	}
	shard, ok := shardNamed(r.PathValue("list"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	list, err := s.control.CRL(r.Context(), r.PathValue("authority"), shard)
	if err == nil {
		now := s.now()
		header := w.Header()
		header.Set("ETag", `"`+list.Digest.String()+`"`)
		header.Set("Last-Modified", list.ThisUpdate.Format(http.TimeFormat))
		header.Set("Expires", list.NextUpdate.Format(http.TimeFormat))
		header.Set("Cache-Control", cacheFor(min(crlMaxAge, list.NextUpdate.Sub(now))))
		if asked(r, list.Digest.String()) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.reply(w, r, "application/pkix-crl", list.DER(), err)
}

func shardNamed(file string) (int, bool) {
	name, ok := strings.CutSuffix(file, ".crl")
	if ok && name == wholeName {
		return ca.WholeList, true
	}
	shard, err := strconv.Atoi(name)
	return shard, ok && err == nil && shard >= 0 && shard < ca.Shards && name == strconv.Itoa(shard)
}

func cacheFor(age time.Duration) string {
	return "public, max-age=" + strconv.Itoa(int(max(0, age).Seconds()))
}

// asked says whether the request already has what the digest is of.
func asked(r *http.Request, digest string) bool {
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || tag == `"`+digest+`"` {
			return true
		}
	}
	return false
}

// manifestList is one list of a manifest.
type manifestList struct {
	URL        string    `json:"url"`
	Number     int64     `json:"number"`
	SHA256     string    `json:"sha256"`
	ThisUpdate time.Time `json:"thisUpdate"`
	NextUpdate time.Time `json:"nextUpdate"`
	Entries    int       `json:"entries"`
}

// getManifest says which lists an authority has, so that who keeps copies
// fetches those that changed.
func (s *Server) getManifest(w http.ResponseWriter, r *http.Request) {
	authority := r.PathValue("authority")
	heads, err := s.control.CRLHeads(r.Context(), authority)
	var content []byte
	if err == nil {
		lists := []manifestList{}
		for _, head := range heads {
			name := strconv.Itoa(head.Shard)
			if head.Shard == ca.WholeList {
				name = wholeName
			}
			lists = append(lists, manifestList{
				s.config.PublicURL + "/crl/" + authority + "/" + name + ".crl", head.Number, head.Digest.String(), head.ThisUpdate, head.NextUpdate, head.Count,
			})
		}
		content, err = json.Marshal(map[string]any{"authority": authority, "lists": lists})
		w.Header().Set("Cache-Control", "no-cache")
	}
	s.reply(w, r, "application/json", content, err)
}
