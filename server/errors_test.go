package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

const secret = "/var/lib/secret: SELECT der FROM certificate"

// Each failure has one code on both wires; what only the server's log may know
// stays there, however it is wrapped.
func TestErrorTable(t *testing.T) {
	cause := errors.New(secret)
	for name, c := range map[string]struct {
		err   error
		code  connect.Code
		words string
	}{
		"invalid":              {fault.New(fault.Invalid, "bad name"), connect.CodeInvalidArgument, "bad name"},
		"not found":            {fault.New(fault.NotFound, "no such"), connect.CodeNotFound, "no such"},
		"conflict":             {fault.New(fault.Conflict, "moved").WithRemedy("look again"), connect.CodeFailedPrecondition, "moved (look again)"},
		"forbidden":            {fmt.Errorf("issue: %w", fault.New(fault.Forbidden, "no")), connect.CodePermissionDenied, "issue: no"},
		"unavailable":          {fault.Wrap(fault.Unavailable, cause, "the disk is full").WithRemedy("make room"), connect.CodeUnavailable, "the disk is full (make room)"},
		"unavailable, wrapped": {fmt.Errorf("agent %w", fault.Wrap(fault.Unavailable, cause, "the disk is full")), connect.CodeUnavailable, "the disk is full"},
		"internal":             {fault.Wrap(fault.Internal, cause, "read "+secret), connect.CodeInternal, "the server's log has it"},
		"any other":            {cause, connect.CodeInternal, "the server's log has it"},
		"a panic":              {guarded(func() error { panic(secret) }), connect.CodeInternal, "the server's log has it"},
		"canceled":             {fmt.Errorf("%s: %w", secret, context.Canceled), connect.CodeCanceled, "canceled"},
		"too late":             {fmt.Errorf("%s: %w", secret, context.DeadlineExceeded), connect.CodeDeadlineExceeded, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			logger := slog.New(slog.NewTextHandler(&log, nil))
			toOperator := connectError(logger, "/verb", c.err)
			if got := connect.CodeOf(toOperator); got != c.code || !strings.Contains(toOperator.Error(), c.words) {
				t.Errorf("operators get %v, want %s with %q", toOperator, c.code, c.words)
			}
			toAgent := grpcError(logger, "/verb", c.err)
			if got := status.Code(toAgent); got != codes.Code(c.code) || !strings.Contains(toAgent.Error(), c.words) {
				t.Errorf("agents get %v, want %s with %q", toAgent, c.code, c.words)
			}
			if strings.Contains(toOperator.Error()+toAgent.Error(), secret) {
				t.Errorf("it leaks: %v; %v", toOperator, toAgent)
			}
			ours := c.code == connect.CodeInternal || c.code == connect.CodeUnavailable || c.code == connect.CodeDeadlineExceeded
			if ours != strings.Contains(log.String(), "secret") {
				t.Errorf("the log has %q", log.String())
			}
		})
	}
}

// What is written before a verb is known speaks HTTP too.
func TestRefusalsOverHTTP(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	for err, want := range map[error]int{
		fault.New(fault.Forbidden, "no"):                             http.StatusForbidden,
		fault.Wrap(fault.Unavailable, errors.New(secret), "not now"): http.StatusServiceUnavailable,
		errors.New(secret):                                           http.StatusInternalServerError,
	} {
		w := httptest.NewRecorder()
		s.refuse(w, httptest.NewRequest(http.MethodGet, "/", nil), err)
		if w.Code != want || strings.Contains(w.Body.String(), secret) {
			t.Errorf("%v: %d %s, want %d", err, w.Code, w.Body, want)
		}
	}
}

func TestSocketIsOfRootAndTheServersUser(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	called := 0
	handler := s.byUID(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ }))
	ask := func(ctx context.Context) int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx))
		return w.Code
	}
	as := func(uid int) context.Context { return context.WithValue(t.Context(), peerKey{}, uid) }
	if code := ask(as(0)); code != http.StatusOK {
		t.Errorf("root gets %d", code)
	}
	if code := ask(as(4711)); code != http.StatusForbidden {
		t.Errorf("another user gets %d", code)
	}
	if code := ask(t.Context()); code != http.StatusForbidden {
		t.Errorf("nobody gets %d", code)
	}
	if called != 1 {
		t.Errorf("%d calls came through, want 1", called)
	}
}
