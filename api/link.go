package api

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// The buffers are small because an agent idles on every host and its messages are
// few.
const (
	linkBuffer = 4 << 10
	linkWindow = 64 << 10
)

// Link is how an agent keeps its connection, whatever else it dials with; what
// stands in for agents under load keeps it so, too. The windows don't grow, since
// gRPC would measure them by a ping after whatever the server says.
func Link() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithReadBufferSize(linkBuffer), grpc.WithWriteBufferSize(linkBuffer),
		grpc.WithInitialWindowSize(linkWindow), grpc.WithInitialConnWindowSize(linkWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: PingAfter, Timeout: PingTimeout}),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
	}
}
