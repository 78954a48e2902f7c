package witness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const (
	maxAnswer = 16 << 10
	// farOff is how far a cosignature's time may be from here: beyond that the
	// clock of one of the two is wrong, and the time says nothing.
	farOff = 10 * time.Minute
)

// Client asks one witness. It follows no redirects, and the context of each call
// ends it.
type Client struct {
	Peer
	cosigner audit.Cosigner
	http     *http.Client
	now      func() time.Time
}

// NewClient returns a client of a witness whose settings are valid.
func NewClient(peer Peer, now func() time.Time) (*Client, error) {
	cosigner, err := audit.NewCosigner(peer.Key)
	if err != nil {
		return nil, err
	}
	return &Client{peer, cosigner, &http.Client{
		Transport:     http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, now}, nil
}

// Close ends connections that are kept for the next call.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// OtherSizeError is the answer that the witness cosigned last another size than the old
// one of the request, or another tree of that size.
type OtherSizeError struct{ Size uint64 }

func (e *OtherSizeError) Error() string {
	return fmt.Sprintf("the witness has cosigned %d entries last", e.Size)
}

// InconsistentError is the answer that the proof does not lead from what the
// witness cosigned last to the checkpoint.
type InconsistentError struct{}

func (*InconsistentError) Error() string {
	return "the witness says that the log does not begin with what it cosigned last"
}

// Add asks for a cosignature. The error may be an *OtherSizeError or an *InconsistentError:
// they are what the witness says, and nothing has signed them.
func (c *Client) Add(ctx context.Context, request audit.AddCheckpoint) (audit.Cosignature, error) {
	status, answer, err := c.do(ctx, http.MethodPost, "add-checkpoint", request.Encode())
	if err != nil {
		return audit.Cosignature{}, err
	}
	switch status {
	case http.StatusOK:
		return c.read(request.Signed, answer)
	case http.StatusConflict:
		text, ended := bytes.CutSuffix(answer, []byte{'\n'})
		size, isSize := audit.ParseTreeSize(text)
		if !ended || !isSize {
			return audit.Cosignature{}, fault.New(fault.Unavailable, "it answered 409 and no size")
		}
		return audit.Cosignature{}, &OtherSizeError{size}
	case http.StatusUnprocessableEntity:
		return audit.Cosignature{}, &InconsistentError{}
	case http.StatusForbidden:
		return audit.Cosignature{}, fault.New(fault.Unavailable, "it answered 403: it has another key for the log").
			WithRemedy("tell who runs it the log's key: rotunda audit verify pins it as log.pub")
	case http.StatusNotFound:
		return audit.Cosignature{}, fault.New(fault.Unavailable, "it answered 404: it does not know the log, or url is not where it takes checkpoints")
	}
	return audit.Cosignature{}, fault.New(fault.Unavailable, "it answered %d, which C2SP tlog-witness does not have for this", status)
}

func (c *Client) read(signed, answer []byte) (audit.Cosignature, error) {
	cosignature, err := audit.ReadCosignature(signed, answer, c.cosigner)
	if err != nil {
		return cosignature, err
	}
	if off := cosignature.At.Sub(c.now()); off > farOff || off < -farOff {
		return audit.Cosignature{}, fault.New(fault.Unavailable, "its cosignature is of %s, %s off: one of the two clocks is wrong", cosignature.At.Format(time.RFC3339), off.Abs().Round(time.Second))
	}
	return cosignature, nil
}

// Newest asks the witness for the newest checkpoint that it cosigned of a log.
// C2SP leaves open how; this is where C2SP tlog-mirror has it, and rotunda audit
// witness. What it returns is signed by the log and by the witness, and At is
// the time that the witness put in its line.
func (c *Client) Newest(ctx context.Context, log note.Verifier) (signed []byte, cp audit.Checkpoint, at time.Time, err error) {
	status, answer, err := c.do(ctx, http.MethodGet, url.PathEscape(log.Name())+"/checkpoint", nil)
	if err != nil {
		return nil, cp, at, err
	}
	if status != http.StatusOK {
		return nil, cp, at, fault.New(fault.Unavailable, "it answered %d", status)
	}
	if cp, err = audit.OpenCheckpoint(answer, log.Name(), log); err != nil {
		return nil, cp, at, err
	}
	_, lines, _ := strings.Cut(string(answer), "\n\n")
	cosignature, err := audit.ReadCosignature(answer, []byte(lines), c.cosigner)
	return answer, cp, cosignature.At, err
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, c.at(path), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return 0, nil, fault.New(fault.Unavailable, "its answer is longer than %d bytes", maxAnswer)
	}
	return response.StatusCode, answer, nil
}
