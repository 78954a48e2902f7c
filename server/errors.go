package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

// public is what a caller may know of an error: the code, and the text but for
// internal ones.
func public(err error) (connect.Code, string) {
	switch {
	case errors.Is(err, context.Canceled):
		return connect.CodeCanceled, "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return connect.CodeDeadlineExceeded, "deadline exceeded"
	}
	code := fault.CodeOf(err)
	if code == fault.Internal {
		return wire[code], "internal error; the server's log has it"
	}
	return wire[code], err.Error()
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
	return status.Error(codes.Code(code), text)
}

func note(log *slog.Logger, procedure string, err error) {
	if fault.CodeOf(err) == fault.Internal && !errors.Is(err, context.Canceled) {
		log.Error("call failed", "procedure", procedure, "error", err)
	}
}

// refuse answers a request that no verb may see.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	code, text := public(err)
	writer := connect.NewErrorWriter()
	if writer.IsSupported(r) {
		_ = writer.Write(w, r, connect.NewError(code, errors.New(text)))
		return
	}
	http.Error(w, text, http.StatusForbidden)
}
