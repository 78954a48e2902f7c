package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// flaky is a server in this process whose every third request fails.
type flaky struct{ n *atomic.Int64 }

func (f flaky) Request(context.Context) error {
	if f.n.Add(1)%3 == 0 {
		return errors.New("closed")
	}
	return nil
}

func (f flaky) Close() error { return nil }

// TestLoadCountsWhatFails holds the counts against a server of which it is
// known what fails: the suite's zero must be able to be another number.
func TestLoadCountsWhatFails(t *testing.T) {
	for _, retry := range []bool{false, true} {
		var asked, complained atomic.Int64
		enough := make(chan struct{}, 1)
		l := Start(Options{
			Dial: func(context.Context, *tls.Config) (Session, error) { return flaky{&asked}, nil },
			Kept: time.Millisecond, Fresh: time.Hour, Retry: retry, Patience: time.Second,
			Complain: func(string, ...any) {
				if complained.Add(1) == 5 {
					enough <- struct{}{}
				}
			},
		}, x509.NewCertPool(), nil)
		if retry { // nothing to complain of: a retry always succeeds here
			for asked.Load() < 30 {
				time.Sleep(time.Millisecond)
			}
		} else {
			<-enough
		}
		counts := l.Stop()
		failed, again := asked.Load()/3, int64(0)
		if retry {
			failed, again = 0, asked.Load()/3
		}
		// The first of all is the fresh client's, which may be the third.
		if counts.Failed < failed || counts.Failed > failed+1 || counts.Reconnects < again-1 || counts.Reconnects > again {
			t.Errorf("retry %v: %d asked, counted %+v", retry, asked.Load(), counts)
		}
	}
}

// TestAwayHoldsClients sees that no request is under way in an outage.
func TestAwayHoldsClients(t *testing.T) {
	var asked atomic.Int64
	l := Start(Options{
		Dial: func(context.Context, *tls.Config) (Session, error) { return flaky{&asked}, nil },
		Kept: time.Millisecond, Fresh: time.Millisecond, Patience: time.Second, Complain: func(string, ...any) {},
	}, x509.NewCertPool(), nil)
	defer l.Stop()
	err := l.Away(func() error {
		before := asked.Load()
		time.Sleep(20 * time.Millisecond) // long enough for what must not come
		if asked.Load() != before {
			t.Error("clients went on in an outage")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
