package control

import (
	"context"
	"crypto/x509"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// Identify says who holds the certificate, by its record: a valid chain alone
// opens nothing. The caller must have verified the chain and the possession of
// the key.
func (c *Control) Identify(ctx context.Context, cert *x509.Certificate, address string) (Caller, error) {
	serial, err := pki.SerialOf(cert)
	if err != nil {
		return Caller{}, fault.Wrap(fault.Forbidden, err, "client certificate")
	}
	print, now := pki.FingerprintOf(cert.Raw), c.now()
	id, ok, since := c.identities.find(serial, now)
	if !ok {
		if c.CutOff() {
			id, err = c.identifyCutOff(serial)
		} else {
			id, err = c.identify(ctx, serial)
		}
		if err != nil {
			return Caller{}, err
		}
		if id.kind == Agent && !c.CutOff() {
			c.identities.keep(serial, id, now, since)
		}
	}
	switch {
	case id.fingerprint != print:
		return Caller{}, fault.New(fault.Forbidden, "client certificate %s is not the one recorded", serial)
	case now.After(id.notAfter): // of a connection that outlived it
		return Caller{}, fault.New(fault.Forbidden, "client certificate %s expired at %s", serial, id.notAfter.Format(time.RFC3339))
	}
	return Caller{Kind: id.kind, ID: id.id, Serial: serial.String(), Address: address}, nil
}

func (c *Control) identify(ctx context.Context, serial pki.Serial) (identified, error) {
	var id identified
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		if err := unrevoked(ctx, tx, serial); err != nil {
			return err
		}
		record, err := tx.Certificate(ctx, serial)
		if err != nil {
			return err
		}
		id.fingerprint, id.notAfter = record.Fingerprint, record.NotAfter
		switch record.Kind {
		case store.KindOperator:
			id.kind, id.id = Operator, record.Operator
			if _, err := tx.EmergencyCredential(ctx, serial); err == nil {
				id.kind = Emergency
			} else if fault.CodeOf(err) != fault.NotFound {
				return err
			}
			return nil
		case store.KindAgent:
			id.kind, id.id = Agent, record.AgentID
			_, err := activeAgent(ctx, tx, Caller{ID: record.AgentID})
			return err
		}
		return fault.New(fault.Forbidden, "client certificate %s is a %s certificate, which opens nothing here", serial, record.Kind)
	})
	return id, err
}

// StillHolds says whether the certificate by which a caller was identified is
// good yet: a stream may outlive it. Who came without one has none to lose.
func (c *Control) StillHolds(ctx context.Context, caller Caller) error {
	if caller.Serial == "" {
		return nil
	}
	serial, err := pki.ParseSerial(caller.Serial)
	if err != nil {
		return err
	}
	id, err := c.identify(ctx, serial)
	if now := c.now(); err == nil && now.After(id.notAfter) {
		err = fault.New(fault.Forbidden, "client certificate %s expired at %s", serial, id.notAfter.Format(time.RFC3339))
	}
	return err
}

// unrevoked refuses a certificate that was revoked, or has no record. Streams ask
// it whenever they look at the store.
func unrevoked(ctx context.Context, tx *store.Tx, serial pki.Serial) error {
	revoked, reason, err := tx.Revoked(ctx, serial)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return fault.New(fault.Forbidden, "client certificate %s has no record", serial)
	case revoked:
		return fault.New(fault.Forbidden, "client certificate %s was revoked: %s", serial, reason)
	}
	return err
}

// activeAgent is the calling agent's record. Agents that were retired are
// refused, and those whose certificate was revoked since they were identified:
// a connection may outlive both.
func activeAgent(ctx context.Context, tx *store.Tx, caller Caller) (store.Agent, error) {
	agent, err := tx.Agent(ctx, caller.ID)
	if err != nil {
		return agent, err
	}
	if agent.State != fleet.AgentActive {
		return agent, notActive(agent.ID, agent.State)
	}
	if shown := caller.shown(); shown != nil {
		err = unrevoked(ctx, tx, *shown)
	}
	return agent, err
}

func notActive(id string, state fleet.AgentState) error {
	return fault.New(fault.Forbidden, "agent %s is %s", id, state).
		WithRemedy("an operator gives it its identity back with: rotunda agent rejoin %s", id)
}

// shown is the serial of the certificate that the caller showed; nil when it
// showed none.
func (c Caller) shown() *pki.Serial {
	if c.Serial == "" {
		return nil
	}
	serial, _ := pki.ParseSerial(c.Serial) // zero when it is none, which has no record
	return &serial
}

// identities remembers for a moment which agents were identified, since one at
// work makes many calls. Nothing changes on the strength of it: each verb of
// agents that changes something looks at the caller's records again in its own
// transaction.
type identities struct {
	mu    sync.Mutex
	of    map[pki.Serial]identified
	since uint64 // counts revocations here
}

type identified struct {
	kind        CallerKind
	id          string
	fingerprint pki.Fingerprint
	notAfter    time.Time
	at          time.Time
}

const (
	identifiedFor  = time.Second // also bounds how long another server's revocation goes unseen
	mostIdentified = 16384
)

func (i *identities) find(serial pki.Serial, now time.Time) (id identified, ok bool, since uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	id, ok = i.of[serial]
	age := now.Sub(id.at)
	return id, ok && age >= 0 && age < identifiedFor, i.since
}

// keep remembers what was found out, unless something was revoked meanwhile.
func (i *identities) keep(serial pki.Serial, id identified, now time.Time, since uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.since != since {
		return
	}
	if i.of == nil || len(i.of) >= mostIdentified {
		i.of = map[pki.Serial]identified{}
	}
	id.at = now
	i.of[serial] = id
}

// forget is called after a revocation was committed.
func (i *identities) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.of = nil
	i.since++
}
