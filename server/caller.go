package server

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// callerKey is where a request's context carries its control.Caller.
type callerKey struct{}

func withCaller(ctx context.Context, caller control.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// callerOf is who sent the request. Without a middleware that found out, it is
// nobody.
func callerOf(ctx context.Context) control.Caller {
	caller, ok := ctx.Value(callerKey{}).(control.Caller)
	if !ok {
		return control.Caller{Kind: control.Anonymous}
	}
	return caller
}

// identify says who holds a client certificate.
type identify func(ctx context.Context, cert *x509.Certificate, address string) (control.Caller, error)

// grpcCaller is who is behind a gRPC call, by the record of its certificate.
// Without one it is anonymous, which opens enrolment only.
func grpcCaller(ctx context.Context, who identify) (control.Caller, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return control.Caller{}, fault.New(fault.Internal, "the call has no peer")
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return control.Caller{Kind: control.Anonymous, Address: from.Addr.String()}, nil
	}
	return who(ctx, info.State.PeerCertificates[0], from.Addr.String())
}

// byCertificate lets a request through with its caller, found by the record of
// the client certificate that TLS has verified.
func (s *Server) byCertificate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var cert *x509.Certificate
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			cert = r.TLS.PeerCertificates[0]
		}
		if cert == nil {
			s.refuse(w, r, fault.New(fault.Forbidden, "no client certificate"))
			return
		}
		caller, err := s.control.Identify(r.Context(), cert, r.RemoteAddr)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		leave, err := s.enter(caller)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		defer leave()
		next.ServeHTTP(w, r.WithContext(withCaller(r.Context(), caller)))
	})
}

// peerKey is where a connection's context carries the uid on the other side of
// the admin socket.
type peerKey struct{}

// peerContext notes the uid behind a connection of the admin socket.
func peerContext(ctx context.Context, conn net.Conn) context.Context {
	local, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := local.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || asked != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, int(peer.Uid))
}

// byUID lets uid 0 and the server's own user through.
func (s *Server) byUID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, known := r.Context().Value(peerKey{}).(int)
		if !known {
			s.refuse(w, r, fault.New(fault.Forbidden, "the admin socket can't tell which user calls"))
			return
		}
		if !mayUseSocket(uid) {
			s.refuse(w, r, fault.New(fault.Forbidden, "uid %d may not use the admin socket: only root and the server's own user may", uid))
			return
		}
		caller := control.Caller{Kind: control.Socket, UID: &uid, Address: s.config.AdminSocket}
		next.ServeHTTP(w, r.WithContext(withCaller(r.Context(), caller)))
	})
}

func mayUseSocket(uid int) bool { return uid == 0 || uid == os.Geteuid() }
