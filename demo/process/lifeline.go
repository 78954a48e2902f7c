package process

import (
	"context"
	"errors"
	"io"
	"os"
)

// ErrOrphaned is why a process ends whose demo is gone.
var ErrOrphaned = errors.New("the demo that this process belongs to is gone")

// WithLifeline returns a context that ends when the demo that started this
// process is gone: then standard input ends.
func WithLifeline(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel(ErrOrphaned)
	}()
	return ctx, func() { cancel(nil) }
}
