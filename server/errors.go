package server

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// wire is the one table from Rotunda's codes to those on the wire. The numbers
// of connect's codes are gRPC's.
var wire = map[fault.Code]connect.Code{
	fault.Invalid:     connect.CodeInvalidArgument,
	fault.NotFound:    connect.CodeNotFound,
	fault.Conflict:    connect.CodeFailedPrecondition,
	fault.Forbidden:   connect.CodePermissionDenied,
	fault.Unavailable: connect.CodeUnavailable,
	fault.Internal:    connect.CodeInternal,
}

// public is what a caller may know of an error.
func public(err error) (connect.Code, string) {
	switch {
	case errors.Is(err, context.Canceled):
		return connect.CodeCanceled, "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return connect.CodeDeadlineExceeded, "deadline exceeded"
	}
	return wire[fault.CodeOf(err)], fault.Public(err)
}

// connectError puts err on the operators' wire and internal ones in the log.
func connectError(log *slog.Logger, procedure string, err error) error {
	if err == nil {
		return nil
	}
	note(log, procedure, err)
	code, text := public(err)
	return connect.NewError(code, errors.New(text))
}

// grpcError puts err on the agents' wire and internal ones in the log.
func grpcError(log *slog.Logger, procedure string, err error) error {
	if err == nil {
		return nil
	}
	note(log, procedure, err)
	code, text := public(err)
	answer := status.New(codes.Code(code), text)
	if after := fault.AfterOf(err); after > 0 {
		if told, err := answer.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
			answer = told
		}
	}
	return answer.Err()
}

// note puts into the log what the caller is not told, or can't mend.
func note(log *slog.Logger, procedure string, err error) {
	if fault.AfterOf(err) > 0 {
		return // there are many of them when there are any; they are counted
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, errStopping) || errors.Is(err, errReplaced) {
		return
	}
	switch fault.CodeOf(err) {
	case fault.Internal:
		log.Error("call failed", "procedure", procedure, "error", err)
	case fault.Unavailable:
		log.Warn("call failed", "procedure", procedure, "error", err)
	}
}

// guarded makes a panic an internal error: one call's defect does not end the
// calls of all others.
func guarded(call func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = panicked(reason)
		}
	}()
	return call()
}

func panicked(reason any) error {
	return fault.New(fault.Internal, "panic: %v\n%s", reason, debug.Stack())
}

// refuse answers a request that no verb may see.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	note(s.log, r.URL.Path, err)
	code, text := public(err)
	if after := fault.AfterOf(err); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	writer := connect.NewErrorWriter()
	if writer.IsSupported(r) {
		_ = writer.Write(w, r, connect.NewError(code, errors.New(text)))
		return
	}
	status := http.StatusInternalServerError
	switch code {
	case connect.CodePermissionDenied:
		status = http.StatusForbidden
	case connect.CodeUnavailable:
		status = http.StatusServiceUnavailable
	}
	http.Error(w, text, status)
}
