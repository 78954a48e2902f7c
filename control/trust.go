package control

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// ceremonyName is where the one request that was prepared last is kept, with
// the key that it is for. An answer to an older one is refused.
const ceremonyName = "ceremony"

// ceremony is what is kept between a request and its response.
type ceremony struct {
	Request   []byte          `json:"request"` // as it was given out
	Kind      store.TrustKind `json:"kind"`
	ChangeID  string          `json:"changeID"`
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
	kind := store.TrustKind(req.Kind)
	if kind != store.RootChange && kind != store.IssuingChange {
		return nil, fault.New(fault.Invalid, "a trust change of %q: it is of root or issuing", printable(req.Kind))
	}
	response := &api.PrepareTrustResponse{}
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		proto.Reset(response)
		if err := noneOpen(ctx, tx); err != nil {
			return err
		}
		prepared, err := c.prepareCeremony(ctx, tx, kind, req)
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
// for what the other changes.
func noneOpen(ctx context.Context, tx *store.Tx) error {
	open, err := tx.OpenTrustChanges(ctx)
	if err == nil && len(open) > 0 {
		return fault.New(fault.Conflict, "trust change %s is under way since %s: one goes on at a time", open[0].ID, open[0].BegunAt.Format("2006-01-02 15:04")).
			WithRemedy("see it through or turn it back: rotunda trust status; rotunda trust back")
	}
	return err
}

func (c *Control) prepareCeremony(ctx context.Context, tx *store.Tx, kind store.TrustKind, req *api.PrepareTrustRequest) (ceremony, error) {
	by, err := c.issuer(ctx, tx)
	if err != nil {
		return ceremony{}, err
	}
	record, err := tx.Authority(ctx, by.ID)
	if err != nil {
		return ceremony{}, err
	}
	order, err := c.nextIssuing(tx, by.Certificate, req)
	if err != nil {
		return ceremony{}, err
	}
	order.ParentID = record.ParentID
	wanted := ca.CeremonyOrder{PublicURL: c.publicURL, Issuing: order, Root: by.root}
	if kind == store.RootChange {
		if wanted, err = c.nextRoot(ctx, tx, wanted, record.ParentID, req); err != nil {
			return ceremony{}, err
		}
	}
	request, key, err := ca.RequestIssuing(wanted)
	if err != nil {
		return ceremony{}, err
	}
	text, err := request.Encode()
	if err != nil {
		return ceremony{}, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	return ceremony{Request: text, Kind: kind, ChangeID: newID(), IssuingID: newID(), Key: plain}, err
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
		certificate, err := x509.ParseCertificate(authority.Certificate)
		if err != nil {
			return "", fault.Wrap(fault.Internal, err, "certificate of authority %s", authority.Name)
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

// nextIssuing is the authority that signs now, once more: the same names, the
// same lifetime, unless the request says otherwise.
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
		TrustDomain: c.domain, Name: c.domain.Name() + " issuing " + tx.Now.Format("2006-01-02 150405"),
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

// BeginTrust takes what was signed, checks it as who will have to rely on it,
// records the new authorities as prepared, and begins the change.
func (c *Control) BeginTrust(ctx context.Context, caller Caller, req *api.BeginTrustRequest) (*api.BeginTrustResponse, error) {
	if err := authorize(caller, "trust.begin"); err != nil {
		return nil, err
	}
	signed, err := ca.ParseCeremonyResponse(req.Response)
	if err != nil {
		return nil, err
	}
	through := trust.Drain
	if req.Through != "" {
		if through, err = parsePhase(req.Through); err != nil {
			return nil, err
		}
	}
	if over := req.Over.AsDuration(); over < 0 || over > longestOver {
		return nil, fault.New(fault.Invalid, "a reissue over %s: it takes between nothing and %s", over, fleet.Duration(longestOver))
	}
	if notice := fleet.Duration(req.Notice.AsDuration()); notice < 0 || notice > rollout.LongestNotice {
		return nil, fault.New(fault.Invalid, "a notice of %s: it is between nothing and %s", notice, rollout.LongestNotice)
	}
	response := &api.BeginTrustResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		return c.beginTrust(ctx, tx, caller, req, signed, through, response)
	}
	if req.DryRun {
		return response, c.db.Read(ctx, func(tx *store.Tx) error {
			proto.Reset(response)
			_, found, err := c.checkBegin(ctx, tx, signed)
			response.Notes = found.notes()
			if err == nil {
				err = c.checkTrustReachable(ctx, tx, req.Notice.AsDuration(), req.Told)
			}
			return err
		})
	}
	if err := c.db.Write(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeTrust()
	return response, nil
}

// checked is a response that was found good, parsed.
type checked struct {
	root, issuing, bridge *x509.Certificate // bridge may be nil
	rootID                string            // of root
	bridgeWanted          bool
	old                   store.Authority // the issuing authority that signs now
}

func (c *Control) checkBegin(ctx context.Context, tx *store.Tx, signed ca.CeremonyResponse) (ceremony, checked, error) {
	if err := noneOpen(ctx, tx); err != nil {
		return ceremony{}, checked{}, err
	}
	kept, err := c.keptCeremony(ctx, tx)
	if err != nil {
		return kept, checked{}, err
	}
	by, err := c.issuer(ctx, tx)
	if err != nil {
		return kept, checked{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(kept.Key)
	if err != nil {
		return kept, checked{}, fault.Wrap(fault.Internal, err, "key of the request that was prepared")
	}
	request, err := ca.ParseCeremonyRequest(kept.Request)
	if err != nil {
		return kept, checked{}, fault.Wrap(fault.Internal, err, "the request that was prepared")
	}
	if err := ca.CheckResponse(tx.Now, request, signed, key.(crypto.Signer)); err != nil {
		return kept, checked{}, err
	}
	found := checked{root: signed.Root, issuing: signed.Issuing, bridge: signed.Bridge, rootID: request.Issuing.ParentID, bridgeWanted: request.Bridge != nil}
	found.old, err = tx.Authority(ctx, by.ID)
	return kept, found, err
}

func (f checked) notes() (notes []string) {
	if f.bridgeWanted && f.bridge == nil {
		notes = append(notes, "there is no bridge from the old root to the new one: every party needs the new root itself before anything is signed under it")
	}
	return notes
}

func (c *Control) beginTrust(ctx context.Context, tx *store.Tx, caller Caller, req *api.BeginTrustRequest, signed ca.CeremonyResponse, through trust.Phase, response *api.BeginTrustResponse) error {
	kept, found, err := c.checkBegin(ctx, tx, signed)
	if err != nil {
		return err
	}
	change := store.TrustChange{
		ID: kept.ChangeID, Kind: kept.Kind, OldRoot: found.old.ParentID, NewRoot: found.rootID,
		OldIssuing: found.old.ID, NewIssuing: kept.IssuingID, Close: req.CloseSessions, Pace: req.Over.AsDuration(), Notice: req.Notice.AsDuration(), Told: req.Told,
		Reason: req.Reason, BegunBy: caller.String(),
	}
	if err := c.recordAuthorities(ctx, tx, req, kept, found, &change); err != nil {
		return err
	}
	if err := tx.InsertTrustChange(ctx, change); err != nil {
		return err
	}
	if err := tx.DeleteSecret(ctx, ceremonyName); err != nil {
		return err
	}
	if through != trust.Drain {
		decision := store.TrustDecision{ID: newID(), ChangeID: change.ID, Kind: store.TrustAdvance, Phase: string(through), By: caller.String()}
		if err := tx.InsertTrustDecision(ctx, decision); err != nil {
			return err
		}
	}
	if change, err = tx.TrustChange(ctx, change.ID); err != nil {
		return err
	}
	v, err := c.viewTrust(ctx, tx, change)
	if err != nil {
		return err
	}
	if err := c.announceTrust(ctx, tx, v); err != nil {
		return err
	}
	if v, err = c.viewTrust(ctx, tx, change); err != nil {
		return err
	}
	response.Change, response.Notes = v.show(), found.notes()
	response.AuditId, err = done(ctx, tx, caller, "trust.begin", "TrustChange/"+change.ID, map[string]any{
		"kind": string(change.Kind), "reason": req.Reason, "through": string(through),
		"root": pki.FingerprintOf(found.root.Raw).String(), "issuing": pki.FingerprintOf(found.issuing.Raw).String(), "bridge": found.bridge != nil,
	})
	return err
}

// recordAuthorities records the new end of the change, prepared: nothing is
// signed by it yet but canaries.
func (c *Control) recordAuthorities(ctx context.Context, tx *store.Tx, req *api.BeginTrustRequest, kept ceremony, found checked, change *store.TrustChange) error {
	all, err := tx.Authorities(ctx)
	if err != nil {
		return err
	}
	if kept.Kind == store.RootChange {
		name := nextName(all, rootName)
		err := tx.InsertAuthority(ctx, store.Authority{
			ID: change.NewRoot, Name: name, Kind: store.RootAuthority, State: fleet.AuthorityPrepared,
			Origin: store.KeyOffline, Certificate: found.root.Raw,
		})
		if err != nil {
			return err
		}
		if found.bridge != nil {
			change.Bridge, change.Carry = newID(), req.CarryBridge
			err := tx.InsertAuthority(ctx, store.Authority{
				ID: change.Bridge, Name: nextName(all, "bridge"), Kind: store.RootAuthority, State: fleet.AuthorityPrepared, Origin: store.KeyOffline,
				ParentID: change.OldRoot, CrossOf: change.NewRoot, Certificate: found.bridge.Raw,
			})
			if err != nil {
				return err
			}
		}
	}
	err = tx.InsertAuthority(ctx, store.Authority{
		ID: change.NewIssuing, Name: nextName(all, issuingName), Kind: store.IssuingAuthority, State: fleet.AuthorityPrepared,
		Origin: store.KeyHere, ParentID: change.NewRoot, Certificate: found.issuing.Raw,
	})
	if err != nil {
		return err
	}
	sealed, err := c.kek.Wrap(kept.Key, []byte(change.NewIssuing))
	if err != nil {
		return err
	}
	return tx.PutAuthorityKey(ctx, store.AuthorityKey{AuthorityID: change.NewIssuing, KEKID: c.kek.ID(), Sealed: sealed})
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
