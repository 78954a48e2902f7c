package target

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// How long a NATS may take over a reload before it is taken for refused, and
// how often it is asked meanwhile. It takes some milliseconds.
const (
	natsPatience = 5 * time.Second
	natsEvery    = 10 * time.Millisecond
	maxVarz      = 256 << 10 // with many routes and leaf nodes it is some KB
)

// nats is NATS. It is told by a signal and answers nothing. Its monitoring
// port, where it has one, shows when it last took its configuration: a reload
// that it refused leaves that time as it was.
func nats() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetNATS,
			Title:             "NATS",
			Layout:            LayoutSymlink,
			Control:           "pidFile; address (loopback monitoring port) where the server has one",
			Reload:            "SIGHUP",
			Word:              "config_load_time of the monitoring port, where there is one",
			Owner:             "readable by nats's user",
			Health:            "/healthz of the monitoring port, where there is one",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               Never,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "restart",
			Validates:         Yes,
			BrokenPair:        "the old pair stays; only the log tells",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.NATS,
			Measured:          "2.9.10",
			Note:              "Without a monitoring port a refused reload shows in the proof alone.",
		},
		restartCloses: true,
		contact:       contactNATS,
		reload:        reloadNATS,
		health:        healthOfNATS,
		says:          natsSays,
	}
}

// varz is what the monitoring port says of the server.
type varz struct {
	ServerID       string     `json:"server_id"`
	Version        string     `json:"version"`
	TLSRequired    bool       `json:"tls_required"`
	ConfigLoadTime *time.Time `json:"config_load_time"`
	// CertNotAfter came with 2.11.
	CertNotAfter *time.Time `json:"tls_cert_not_after"`
}

func contactNATS(ctx context.Context, _ Host, t Target) (Contact, error) {
	process, err := t.process(ctx, "nats-server")
	if err != nil {
		return Contact{}, err
	}
	_ = process.Release() // it was only looked at
	if t.Control.Address == "" {
		return Contact{Product: "nats"}, nil
	}
	seen, err := t.varz(ctx)
	if err != nil {
		return Contact{}, err
	}
	if !seen.TLSRequired {
		return Contact{}, fault.New(fault.Invalid, "NATS at %s, target %s, does not demand TLS of its clients", t.Control.Address, t.Name).
			WithRemedy("give its configuration a tls block with cert_file %q and take allow_non_tls out, or name its own monitoring port as targets.%s.address",
				t.File("chain.pem"), t.Name)
	}
	return Contact{Product: "nats", Version: seen.Version}, nil
}

// reloadNATS signals, and waits until the configuration is a newer one.
func reloadNATS(ctx context.Context, _ Host, t Target, _ Change) (Loaded, error) {
	if t.Control.Address == "" {
		return Loaded{Level: fleet.Delivered}, t.signal(ctx, syscall.SIGHUP, "nats-server")
	}
	before, err := t.varz(ctx)
	if err != nil {
		return Loaded{}, err
	}
	if err := t.signal(ctx, syscall.SIGHUP, "nats-server"); err != nil {
		return Loaded{}, err
	}
	after, err := t.reloaded(ctx, before)
	if err != nil {
		return Loaded{}, err
	}
	return Loaded{Level: fleet.Loaded, Output: "config_load_time " + after.Format(time.RFC3339Nano)}, nil
}

// reloaded waits for a configuration that is newer than before's.
func (t Target) reloaded(ctx context.Context, before varz) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, natsPatience)
	defer cancel()
	again := time.NewTicker(natsEvery)
	defer again.Stop()
	var failed error
	for {
		now, err := t.varz(ctx)
		if err == nil && (now.ServerID != before.ServerID || !now.ConfigLoadTime.Equal(*before.ConfigLoadTime)) {
			return *now.ConfigLoadTime, nil
		}
		if ctx.Err() == nil {
			failed = err // not of the look that the end of patience cut short
		}
		select {
		case <-ctx.Done():
			if failed != nil {
				return time.Time{}, failed
			}
			return time.Time{}, fault.New(fault.Invalid, "NATS %s refused the reload, or is not the process of pid file %s: its configuration is still that of %s",
				t.Name, t.Control.PIDFile, before.ConfigLoadTime.Format(time.RFC3339Nano)).
				WithRemedy("its log says why, in a line with \"Failed to reload\"; nats-server -t -c FILE tries the same")
		case <-again.C:
		}
	}
}

// healthOfNATS asks /healthz, which looks at JetStream too.
func healthOfNATS(ctx context.Context, _ Host, t Target, _ probe.Spec) error {
	if t.Control == nil || t.Control.Address == "" {
		return nil
	}
	_, err := t.monitor(ctx, "/healthz")
	return err
}

func natsSays(ctx context.Context, _ Host, t Target) (string, error) {
	if t.Control.Address == "" {
		return "", nil
	}
	seen, err := t.varz(ctx)
	if err != nil {
		return "", err
	}
	text := "configuration of " + seen.ConfigLoadTime.Format(time.RFC3339Nano)
	if seen.CertNotAfter != nil {
		text += ", certificate until " + seen.CertNotAfter.Format(time.RFC3339)
	}
	return text, nil
}

func (t Target) varz(ctx context.Context) (varz, error) {
	page, err := t.monitor(ctx, "/varz")
	if err != nil {
		return varz{}, err
	}
	var seen varz
	if err := json.Unmarshal(page, &seen); err != nil || seen.ServerID == "" || seen.Version == "" || seen.ConfigLoadTime == nil {
		return varz{}, fault.New(fault.Invalid, "what answers at %s for target %s is no monitoring port of a NATS that tells its config_load_time", t.Control.Address, t.Name).
			WithRemedy("name the http port of this NATS as targets.%s.address in agent.yaml, or none", t.Name)
	}
	return seen, nil
}

// monitor reads a page of the monitoring port.
func (t Target) monitor(ctx context.Context, page string) ([]byte, error) {
	p := plainPages(t.Control)
	defer p.close()
	var content []byte
	err := p.read(ctx, page, "", maxVarz, func(status int, body io.Reader) (err error) {
		if content, err = io.ReadAll(body); err == nil && status != http.StatusOK {
			err = fault.New(fault.Invalid, "what answers at %s for target %s answers %s with %d: %.300s",
				t.Control.Address, t.Name, page, status, ending(string(content)))
		}
		return err
	})
	if _, told := errors.AsType[*fault.Error](err); err == nil || told {
		return content, err
	}
	return nil, t.unmonitored(ctx, err)
}

// unmonitored tells a server that is down from a port that is not its own.
func (t Target) unmonitored(ctx context.Context, err error) error {
	refused := errors.Is(err, syscall.ECONNREFUSED)
	timeout, isNet := errors.AsType[net.Error](err)
	down := refused && !t.listens(ctx) || isNet && timeout.Timeout() || ctx.Err() != nil ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	if down {
		return fault.Wrap(fault.Unavailable, err, "ask NATS %s", t.Name)
	}
	return fault.Wrap(fault.Invalid, err, "ask NATS %s, which runs, at its monitoring port", t.Name).
		WithRemedy("give its configuration the line http: %s, or name its own port as targets.%s.address in agent.yaml", t.Control.Address, t.Name)
}
