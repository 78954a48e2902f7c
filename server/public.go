package server

import (
	"log"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// publicServer serves over plain HTTP what is public and signed, or public and
// harmless, so that it can be fetched without trusting anything yet.
func (s *Server) publicServer() *http.Server {
	mux := http.NewServeMux()
	for path, get := range map[string]http.HandlerFunc{
		"/crl/{authority}/{list}": s.getCRL,
		"/ca/{file}":              s.getIssuer,
		"/bundle.pem":             s.getBundle,
		"/log/checkpoint":         s.getCheckpoint,
		"/log/tile/{path...}":     s.getTile,
	} {
		mux.Handle("GET "+path, s.withStore(get))
	}
	s.handleHealth(mux)
	answer := OCSPHandler(s.control)
	return plainServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A request in a path may have two slashes in a row, which a mux takes
		// for a mistake.
		if strings.HasPrefix(r.URL.Path, ocspPrefix) {
			answer.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), s.log)
}

func plainServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout,
		WriteTimeout: time.Minute, IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10, ErrorLog: quiet(log),
	}
}

// quiet puts what net/http has to say into the server's log, as what it is:
// mostly other people's broken handshakes.
func quiet(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}

func (s *Server) getIssuer(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutSuffix(r.PathValue("file"), ".crt")
	if !ok {
		http.NotFound(w, r)
		return
	}
	der, err := s.control.AuthorityCertificate(r.Context(), id)
	s.reply(w, r, "application/pkix-cert", der, err)
}

func (s *Server) getBundle(w http.ResponseWriter, r *http.Request) {
	bundle, err := s.control.DomainBundle(r.Context())
	var content []byte
	if err == nil {
		content = bundle.PEM()
	}
	s.reply(w, r, "application/x-pem-file", content, err)
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request, kind string, content []byte, err error) {
	if err == nil {
		w.Header().Set("Content-Type", kind)
		w.Write(content)
		return
	}
	switch fault.CodeOf(err) {
	case fault.NotFound, fault.Invalid:
		http.NotFound(w, r)
	default:
		s.refuse(w, r, err)
	}
}
