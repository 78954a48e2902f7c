package control

import (
	"context"
	"crypto/x509"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/ocsp"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// Each server answers for each issuing authority by a key of its own, which is
// made here when it is first needed, is certified by that authority for a few
// days, and never leaves memory: so no key is shared, stored or restored, and a
// start costs one certificate. It is renewed after half of its life, so that
// what it signs for the longest, a staple, ends before its certificate does.
const (
	responderLife  = 2 * stapleLife
	responderRetry = time.Minute
)

// responder answers for one authority.
type responder struct {
	*ocsp.Responder
	authorityID string
	issuer      ocsp.Issuer
	serial      pki.Serial // of its certificate
	renewAt     time.Time
}

// sameKey says whether both are one responder.
func (r *responder) sameKey(other *responder) bool { return r.serial == other.serial }

// answersFor says whether any of the certificates is of the authority.
func (r *responder) answersFor(request ocsp.Request) bool {
	for _, id := range request.IDs {
		if r.issuer.Names(id) {
			return true
		}
	}
	return false
}

// responding is the responder of one authority, as it is renewed.
type responding struct {
	mu      sync.Mutex
	current *responder
	epoch   uint64 // of the last look whether it may answer
	retryAt time.Time
}

// responder is the one that answers for the authority now. Where there can be
// none it is NotFound: no such authority, a root, whose key is away, or one whose
// key is elsewhere.
func (c *Control) responder(ctx context.Context, epoch uint64, authorityID string) (*responder, error) {
	if strings.ContainsRune(authorityID, 0) || !utf8.ValidString(authorityID) { // no store has such a name
		return nil, fault.New(fault.NotFound, "authority %s does not exist", printable(authorityID))
	}
	kept, known := c.answers.responders.Load(authorityID)
	if !known {
		// Nothing is kept of an authority that somebody made up.
		_, err, _ := c.answers.flights.Do("may "+authorityID, func() (any, error) {
			return c.mayAnswer(context.WithoutCancel(ctx), authorityID, nil)
		})
		if err != nil {
			return nil, err
		}
		kept, _ = c.answers.responders.LoadOrStore(authorityID, &responding{})
	}
	r := kept.(*responding)
	r.mu.Lock() // the others wait for the one that is made
	defer r.mu.Unlock()
	if r.current != nil && r.epoch != epoch {
		may, err := c.mayAnswer(ctx, authorityID, &r.current.serial)
		if err != nil {
			return nil, err
		}
		if r.epoch = epoch; !may {
			r.current = nil
		}
	}
	return r.renewed(ctx, c, authorityID)
}

// renewed is the current responder, made anew where it is due. An old one answers
// while there can be no new one, until its end.
func (r *responding) renewed(ctx context.Context, c *Control, authorityID string) (*responder, error) {
	now := c.now()
	good := r.current != nil && now.Before(r.current.Certificate.NotAfter)
	if good && (now.Before(r.current.renewAt) || now.Before(r.retryAt)) {
		return r.current, nil
	}
	made, err := c.newResponder(ctx, authorityID)
	switch {
	case err == nil:
		r.current = made
	case !good || fault.CodeOf(err) == fault.NotFound:
		return nil, err
	default:
		c.complain("renew an OCSP responder", authorityID, err)
		r.retryAt = now.Add(responderRetry)
	}
	return r.current, nil
}

// mayAnswer says whether there can be a responder for the authority, and whether
// the one whose certificate is known may go on: that may be revoked, as when its
// server fell into other hands.
func (c *Control) mayAnswer(ctx context.Context, authorityID string, serial *pki.Serial) (bool, error) {
	leave, err := c.answers.reading.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	may := true
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		if _, err := c.answering(ctx, tx, authorityID); err != nil || serial == nil {
			return err
		}
		record, err := tx.Certificate(ctx, *serial)
		may = record.RevokedAt.IsZero()
		return err
	})
	return may, err
}

// answering is the authority that a responder may answer for.
func (c *Control) answering(ctx context.Context, tx *store.Tx, authorityID string) (*signer, error) {
	record, err := tx.Authority(ctx, authorityID)
	switch {
	case err != nil:
		return nil, err
	case record.Kind != store.IssuingAuthority || record.State == fleet.AuthorityWithdrawn:
		return nil, fault.New(fault.NotFound, "authority %s has no OCSP responder: its CRLs say what it revoked", record.Name)
	}
	return c.signer(ctx, tx, authorityID)
}

// newResponder makes a key and has it certified.
func (c *Control) newResponder(ctx context.Context, authorityID string) (*responder, error) {
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return nil, err
	}
	names, err := pki.ParseNames("OCSP responder", nil, nil, "")
	if err != nil {
		return nil, err
	}
	made := &responder{authorityID: authorityID}
	err = c.change(ctx, func(tx *store.Tx) error {
		by, err := c.answering(ctx, tx, authorityID)
		if err != nil {
			return err
		}
		prepared, err := by.PrepareResponder(tx.Now, key.Public(), names, responderLife, time.Minute)
		if err != nil {
			return err
		}
		issued, err := by.Issue(prepared)
		if err != nil {
			return err
		}
		certificate, err := x509.ParseCertificate(issued.DER)
		if err != nil {
			return err
		}
		if made.Responder, err = ocsp.NewResponder(by.Certificate, certificate, key); err != nil {
			return err
		}
		if made.issuer, err = ocsp.NewIssuer(by.Certificate); err != nil {
			return err
		}
		made.serial, made.renewAt = issued.Serial, tx.Now.Add(issued.NotAfter.Sub(tx.Now)/2)
		if err := tx.InsertCertificates(ctx, certificateRecord(store.KindResponder, issued, names, tx.Now)); err != nil {
			return err
		}
		_, err = done(ctx, tx, Caller{Kind: Server}, "ocsp.responder", "Authority/"+authorityID, map[string]any{
			"serial": issued.Serial.String(), "notAfter": issued.NotAfter.UTC().Format(time.RFC3339),
		})
		return err
	})
	return made, err
}
