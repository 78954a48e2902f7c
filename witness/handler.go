package witness

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Handler serves add-checkpoint of C2SP tlog-witness, and of each log what was
// cosigned last, at ORIGIN/checkpoint.
func (s *State) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", s.addCheckpoint)
	mux.HandleFunc("GET /{origin}/checkpoint", s.getCheckpoint)
	return mux
}

func (s *State) getCheckpoint(w http.ResponseWriter, r *http.Request) {
	signed := s.Newest(r.PathValue("origin"))
	if signed == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(signed)
}

func (s *State) addCheckpoint(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, audit.MaxAddCheckpoint))
	if err != nil {
		http.Error(w, "the body can't be read, or is too large", http.StatusBadRequest)
		return
	}
	request, err := audit.ParseAddCheckpoint(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	line, err := s.Add(request)
	var refusal *refusalError
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(line)
	case errors.As(err, &refusal) && refusal.status == http.StatusConflict:
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(refusal.status)
		_, _ = fmt.Fprintf(w, "%d\n", refusal.size)
	case errors.As(err, &refusal):
		http.Error(w, refusal.why, refusal.status)
	default:
		s.log.Error("cosign a checkpoint", "error", err)
		http.Error(w, "the witness can't keep what it would cosign", http.StatusInternalServerError)
	}
}

// refusalError is why a checkpoint is not cosigned, in the statuses of C2SP
// tlog-witness.
type refusalError struct {
	status int
	why    string
	size   uint64 // with 409: of what was cosigned last
}

func (r *refusalError) Error() string { return r.why }

// Add cosigns a checkpoint that goes on from the one cosigned last. What it
// returns is durable.
func (s *State) Add(request audit.AddCheckpoint) (line []byte, err error) {
	origin := audit.OriginOf(request.Signed)
	w := s.logs[origin]
	if w == nil {
		return nil, &refusalError{status: http.StatusNotFound, why: "this log is not watched here"}
	}
	cp, err := audit.OpenCheckpoint(request.Signed, origin, w.verifier)
	if err != nil {
		return nil, &refusalError{status: http.StatusForbidden, why: err.Error()}
	}
	if request.Old > cp.Size {
		return nil, &refusalError{status: http.StatusBadRequest, why: "the old size is greater than the checkpoint's"}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := s.check(w, request, cp); err != nil {
		return nil, err
	}
	line, err = s.keep(w, cp, request.Signed)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cosign")
	}
	return line, nil
}

// check holds a checkpoint, whose signature is the log's, to what was cosigned
// last.
func (s *State) check(w *watched, request audit.AddCheckpoint, cp audit.Checkpoint) error {
	switch {
	case request.Old != w.newest.Size:
		return &refusalError{status: http.StatusConflict, why: "another size was cosigned last", size: w.newest.Size}
	case cp.Size == w.newest.Size && cp.Root != w.newest.Root:
		s.log.Error("a log shows two trees of one size", "log", w.verifier.Name(), "cosigned", string(w.signed), "shown", string(request.Signed))
		return &refusalError{status: http.StatusConflict, why: "another root was cosigned at this size", size: w.newest.Size}
	case audit.CheckConsistency(request.Proof, w.newest, cp) != nil:
		// Whoever has the checkpoint may send a proof that is none, so this is no
		// evidence yet.
		s.log.Warn("a log is not proven to go on from what was cosigned", "log", w.verifier.Name(), "cosigned", string(w.signed), "shown", string(request.Signed))
		return &refusalError{status: http.StatusUnprocessableEntity, why: "the proof does not lead from what was cosigned last to this checkpoint"}
	}
	return nil
}
