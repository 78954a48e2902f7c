package retry_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/internal/retry"
)

func TestDelay(t *testing.T) {
	told := func(after time.Duration) error {
		answer, err := status.New(codes.Unavailable, "too much to do").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Err()
	}
	for _, c := range []struct {
		err   error
		after time.Duration
		told  bool
	}{
		{told(250 * time.Millisecond), 250 * time.Millisecond, true}, {told(0), 0, true}, {told(-time.Second), 0, true},
		{status.Error(codes.Unavailable, "away"), 0, false}, {errors.New("no status"), 0, false}, {nil, 0, false},
	} {
		if after, told := retry.Delay(c.err); after != c.after || told != c.told {
			t.Errorf("%v: %v, %v", c.err, after, told)
		}
	}
}
