package control

import (
	"cmp"
	"context"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/store"
)

// Open returns a Control over a store that was founded. It opens the issuing
// authority's key and the audit log's with the KEK.
func Open(ctx context.Context, o Options) (*Control, error) {
	c := &Control{
		db: o.DB, kek: o.KEK, publicURL: o.PublicURL, agentAddress: o.AgentAddress, notifyURL: o.NotifyURL,
		commands: o.Commands, witnesses: o.Witnesses, version: o.Version, identityLife: cmp.Or(o.IdentityLife, identityLife),
		retention: o.Retention, archive: o.Archive, instance: newID(), now: o.Now, log: o.Log,
	}
	c.recorder.news = make(chan struct{}, 1)
	c.moves.newest.Store(&move{next: make(chan struct{})})
	c.answers.open()
	c.started = o.Now()
	err := o.DB.Read(ctx, func(tx *store.Tx) error {
		meta, err := tx.Meta(ctx)
		if err != nil {
			return err
		}
		if meta.TrustDomain == "" {
			return fault.New(fault.Conflict, "the store in %s was not made to its end", o.DB.Place()).WithRemedy("run rotunda init once more with the same --store")
		}
		if c.domain, err = spiffeid.TrustDomainFromString(meta.TrustDomain); err != nil {
			return fault.Wrap(fault.Internal, err, "trust domain of the store")
		}
		if _, err := c.signers(ctx, tx); err != nil { // what can't be opened should be known now
			return err
		}
		return c.openLog(ctx, tx, o.KEK)
	})
	if err != nil {
		return nil, err
	}
	if err := c.openSpool(ctx, o.Spooling); err != nil {
		return nil, err
	}
	if err := c.placeTargets(ctx); err != nil {
		return nil, err
	}
	c.watchers.tell = o.DB.Tell
	o.DB.Hear(c.watchers.heard)
	return c, nil
}

func (c *Control) openLog(ctx context.Context, tx *store.Tx, kek *keys.KEK) error {
	signing, verifier, err := unsealLogKey(ctx, tx, kek)
	if err != nil {
		return err
	}
	c.logKey = verifier
	if c.logVerifier, err = note.NewVerifier(verifier); err != nil {
		return fault.Wrap(fault.Internal, err, "audit log's key")
	}
	if c.logSigner, err = note.NewSigner(signing); err != nil {
		return fault.Wrap(fault.Internal, err, "audit log's key")
	}
	if c.logVerifier, err = note.NewVerifier(verifier); err != nil {
		return fault.Wrap(fault.Internal, err, "audit log's key")
	}
	return nil
}

func unsealLogKey(ctx context.Context, tx *store.Tx, kek *keys.KEK) (signing, verifier string, err error) {
	secret, err := tx.Secret(ctx, logKeyName)
	if err != nil {
		return "", "", err
	}
	plain, err := kek.Unwrap(secret.KEKID, secret.Sealed, []byte(logKeyName))
	if err != nil {
		return "", "", err
	}
	signing, verifier, _ = strings.Cut(string(plain), "\n")
	return signing, verifier, nil
}

// LogVerifier is the audit log's public key as the store has it, sealed by the
// KEK.
func LogVerifier(ctx context.Context, tx *store.Tx, kek *keys.KEK) (note.Verifier, error) {
	_, verifier, err := unsealLogKey(ctx, tx, kek)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(verifier)
}

// InTime says why nothing is signed or written now, where this host's clock or the
// database's is the reason.
func (c *Control) InTime() error { return c.db.InTime() }
