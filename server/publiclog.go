package server

import (
	"crypto/sha256"
	"fmt"
	"net/http"
)

// The log is served as C2SP tlog-tiles has it. A checkpoint is good for the
// moment; a tile never changes, a partial one neither.
const (
	moment  = "no-cache"
	forever = "public, max-age=31536000, immutable"
)

func (s *Server) getCheckpoint(w http.ResponseWriter, r *http.Request) {
	checkpoint, err := s.control.Published(r.Context())
	if err == nil && checkpoint == nil {
		http.NotFound(w, r)
		return
	}
	s.replyCached(w, r, "text/plain; charset=utf-8", moment, checkpoint, err)
}

func (s *Server) getTile(w http.ResponseWriter, r *http.Request) {
	tile, err := s.control.AuditTile(r.Context(), "tile/"+r.PathValue("path"))
	s.replyCached(w, r, "application/octet-stream", forever, tile, err)
}

// replyCached says how long the content may be kept, and sends it only to who
// does not have it.
func (s *Server) replyCached(w http.ResponseWriter, r *http.Request, kind, cache string, content []byte, err error) {
	if err == nil {
		tag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
		w.Header().Set("Cache-Control", cache)
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.reply(w, r, kind, content, err)
}
