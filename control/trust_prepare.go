package control

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// ceremonyName is where the one request that was prepared last is kept, with
// the key that it is for. An answer to an older one is refused.
const ceremonyName = "ceremony"

// ceremony is what is kept between a request and its response.
type ceremony struct {
	Request   []byte          `json:"request"` // as it was given out
	Kind      store.TrustKind `json:"kind"`
	Standby   bool            `json:"standby,omitempty"` // the new root is to stand by
	Renews    bool            `json:"renews,omitempty"`  // ChangeID is a standby, and gets another issuing authority
	ChangeID  string          `json:"changeID"`
	Creates   bool            `json:"creates,omitempty"`  // it is a region's first authority, and no change of trust
	Canaries  bool            `json:"canaries,omitempty"` // it is for canaries under a root that is not ours, and no change of trust
	Region    string          `json:"region,omitempty"`   // of the new issuing authority
	OldID     string          `json:"oldID"`              // the authority that it replaces, or is made like
	IssuingID string          `json:"issuingID"`
	Key       []byte          `json:"key"` // PKCS #8
}

// PrepareTrust makes the key of a new issuing authority, keeps it sealed, and
// says what has to be signed for it where the root's key is. The fleet does
// not notice; who prepares again makes this request void.
func (c *Control) PrepareTrust(ctx context.Context, caller Caller, req *api.PrepareTrustRequest) (*api.PrepareTrustResponse, error) {
	if err := authorize(caller, "trust.prepare"); err != nil {
		return nil, err
	}
	switch req.Kind {
	case string(store.RootChange), string(store.IssuingChange), standbyKind, regionKind, canaryKind:
	default:
		return nil, fault.New(fault.Invalid, "a trust change of %s: it is of root, issuing or standby, a region's first authority, or canaries", printable(req.Kind))
	}
	response := &api.PrepareTrustResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		proto.Reset(response)
		prepared, err := c.prepareCeremony(ctx, tx, req)
		if err != nil {
			return err
		}
		if err := c.keepCeremony(ctx, tx, prepared); err != nil {
			return err
		}
		response.Request, response.Id = prepared.Request, prepared.ChangeID
		response.AuditId, err = done(ctx, tx, caller, "trust.prepare", "TrustChange/"+prepared.ChangeID, map[string]any{
			"kind": req.Kind, "request": sha256Hex(prepared.Request),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// noneOpen refuses a second change while one is under way: two would each wait
// for what the other changes. A root that stands by is none.
func noneOpen(ctx context.Context, tx *store.Tx) error {
	open, err := tx.OpenTrustChanges(ctx)
	if err != nil {
		return err
	}
	for _, change := range open {
		idle, err := idle(ctx, tx, change)
		if err != nil {
			return err
		}
		if !idle {
			return fault.New(fault.Conflict, "trust change %s is under way since %s: one goes on at a time", change.ID, change.BegunAt.Format("2006-01-02 15:04")).
				WithRemedy("see it through or turn it back: rotunda trust status; rotunda trust back")
		}
	}
	return nil
}

func (c *Control) prepareCeremony(ctx context.Context, tx *store.Tx, req *api.PrepareTrustRequest) (ceremony, error) {
	if req.Kind == canaryKind {
		return c.prepareCanaries(ctx, tx, req)
	}
	if err := noneOpen(ctx, tx); err != nil {
		return ceremony{}, err
	}
	record, err := c.replaced(ctx, tx, req)
	if err != nil {
		return ceremony{}, err
	}
	now, err := readEnd(ctx, tx, record.ParentID, record.ID)
	if err != nil {
		return ceremony{}, err
	}
	certificate, err := certificateOf(record)
	if err != nil {
		return ceremony{}, err
	}
	order, err := c.nextIssuing(tx, certificate, req)
	if err != nil {
		return ceremony{}, err
	}
	order.ParentID = record.ParentID
	wanted := ca.CeremonyOrder{PublicURL: c.publicURL, Issuing: order, Root: now.anchor}
	made := ceremony{Kind: store.RootChange, Standby: req.Kind == standbyKind, ChangeID: newID(), IssuingID: newID(), OldID: record.ID, Region: req.Region}
	standby, renews, err := theStandby(ctx, tx)
	switch {
	case err != nil:
		return ceremony{}, err
	case req.Kind == string(store.IssuingChange), req.Kind == regionKind:
		made.Kind, made.Creates = store.IssuingChange, req.Kind == regionKind
	case made.Standby && renews:
		made.Renews, made.ChangeID = true, standby.ID
		wanted, err = renewStandby(ctx, tx, wanted, standby)
	default:
		wanted, err = c.nextRoot(ctx, tx, wanted, record.ParentID, req)
	}
	if err != nil {
		return ceremony{}, err
	}
	return made.ask(wanted)
}

// ask makes the key and the request for it.
func (made ceremony) ask(wanted ca.CeremonyOrder) (ceremony, error) {
	request, key, err := ca.RequestIssuing(wanted)
	if err != nil {
		return ceremony{}, err
	}
	if made.Request, err = request.Encode(); err != nil {
		return ceremony{}, err
	}
	made.Key, err = x509.MarshalPKCS8PrivateKey(key)
	return made, err
}

// nextRoot makes the order one for a new root, and a bridge to it from the one
// that there is.
func (c *Control) nextRoot(ctx context.Context, tx *store.Tx, wanted ca.CeremonyOrder, rootID string, req *api.PrepareTrustRequest) (ca.CeremonyOrder, error) {
	old := wanted.Root
	life, err := lifeOr(req.RootLifetime.AsDuration(), old)
	if err != nil {
		return wanted, err
	}
	name, err := c.nextRootName(ctx, tx, req.RootName)
	if err != nil {
		return wanted, err
	}
	wanted.Root, wanted.NewRoot = nil, &ca.NewRoot{Name: name, Algorithm: wanted.Issuing.Algorithm, Lifetime: life}
	wanted.Bridge = &ca.BridgeOrder{Old: old, OldID: rootID}
	wanted.Issuing.ParentID = newID()
	return wanted, nil
}

// nextRootName is a common name that no root has had here: whoever builds a
// chain by names must not find two. The default is the day, and the moment where
// the day has seen another one.
func (c *Control) nextRootName(ctx context.Context, tx *store.Tx, wanted string) (string, error) {
	all, err := tx.Authorities(ctx)
	if err != nil {
		return "", err
	}
	taken := map[string]bool{}
	for _, authority := range all {
		certificate, err := certificateOf(authority)
		if err != nil {
			return "", err
		}
		taken[certificate.Subject.CommonName] = true
	}
	if wanted != "" {
		if taken[wanted] {
			return "", fault.New(fault.Invalid, "an authority here has the name %q: each needs a subject of its own", wanted).
				WithRemedy("choose another: --name")
		}
		return wanted, nil
	}
	name := c.domain.Name() + " root " + tx.Now.Format("2006-01-02")
	if taken[name] {
		name = c.domain.Name() + " root " + tx.Now.Format("2006-01-02 150405")
	}
	if taken[name] {
		return "", fault.New(fault.Conflict, "a root was made this very second, and its name is %q", name).
			WithRemedy("try again, or choose another: --name")
	}
	return name, nil
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// nextIssuing is an authority once more: the same names, the same lifetime, unless
// the request says otherwise.
func (c *Control) nextIssuing(tx *store.Tx, now *x509.Certificate, req *api.PrepareTrustRequest) (ca.IssuingOrder, error) {
	life, err := lifeOr(req.IssuingLifetime.AsDuration(), now)
	if err != nil {
		return ca.IssuingOrder{}, err
	}
	algorithm, err := pki.AlgorithmOf(now.PublicKey)
	if err != nil {
		return ca.IssuingOrder{}, err
	}
	if req.Algorithm != "" {
		if algorithm, err = pki.ParseKeyAlgorithm(req.Algorithm); err != nil {
			return ca.IssuingOrder{}, err
		}
	}
	order := ca.IssuingOrder{
		TrustDomain: c.domain, Name: c.domain.Name() + " " + strings.ReplaceAll(issuingOf(req.Region), "-", " ") + " " + tx.Now.Format("2006-01-02 150405"),
		Algorithm: algorithm, Lifetime: life, PermittedDNS: slices.Clone(now.PermittedDNSDomains),
	}
	for _, block := range now.PermittedIPRanges {
		prefix, err := netip.ParsePrefix(block.String())
		if err != nil {
			return order, fault.Wrap(fault.Internal, err, "permitted range of the issuing authority")
		}
		order.PermittedIPs = append(order.PermittedIPs, prefix)
	}
	return order, nil
}

func lifeOr(wanted time.Duration, now *x509.Certificate) (time.Duration, error) {
	switch {
	case wanted == 0:
		return now.NotAfter.Sub(now.NotBefore).Truncate(time.Second), nil
	case wanted < time.Hour:
		return 0, fault.New(fault.Invalid, "a lifetime of %s is too short for an authority, the least is 1h", wanted)
	}
	return wanted.Truncate(time.Second), nil
}

func (c *Control) keepCeremony(ctx context.Context, tx *store.Tx, prepared ceremony) error {
	plain, err := json.Marshal(prepared)
	if err != nil {
		return err
	}
	sealed, err := c.kek.Wrap(plain, []byte(ceremonyName))
	if err != nil {
		return err
	}
	return tx.PutSecret(ctx, store.Secret{Name: ceremonyName, KEKID: c.kek.ID(), Sealed: sealed})
}

func (c *Control) keptCeremony(ctx context.Context, tx *store.Tx) (ceremony, error) {
	var kept ceremony
	secret, err := tx.Secret(ctx, ceremonyName)
	if fault.CodeOf(err) == fault.NotFound {
		return kept, fault.New(fault.Conflict, "no request waits for a response").
			WithRemedy("prepare one with: rotunda trust rotate root --request FILE")
	}
	if err != nil {
		return kept, err
	}
	plain, err := c.kek.Unwrap(secret.KEKID, secret.Sealed, []byte(ceremonyName))
	if err != nil {
		return kept, err
	}
	if err := json.Unmarshal(plain, &kept); err != nil {
		return kept, fault.Wrap(fault.Internal, err, "the request that was prepared")
	}
	return kept, nil
}

// nextName is the first of base, base-2, base-3 … that no authority has.
func nextName(all []store.Authority, base string) string {
	taken := map[string]bool{}
	for _, authority := range all {
		taken[authority.Name] = true
	}
	name := base
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}
