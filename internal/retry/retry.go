// Package retry reads when a server wants to be called again.
package retry

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Delay is how long after the error of a gRPC call the server wants to be called
// again, and whether it said so, with google.rpc.RetryInfo. It is never negative.
func Delay(err error) (after time.Duration, told bool) {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return max(info.GetRetryDelay().AsDuration(), 0), true
		}
	}
	return 0, false
}
