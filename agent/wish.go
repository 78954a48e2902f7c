package agent

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/target"
)

// wish is a desired placement, parsed. It came from the control plane and is
// checked like anything that comes from outside.
type wish struct {
	desired   rotation.Desired
	intent    string
	service   string
	instance  string
	cluster   string // empty: nobody else would miss the target
	slot      leave
	names     pki.Names
	algorithm pki.KeyAlgorithm
	usages    []x509.ExtKeyUsage
	peers     []pki.BundleDigest
	staleCRL  fleet.OnStale // empty: no CRLs are delivered
	staples   bool          // responses are delivered to be stapled
	files     filesWish
	adapter   target.Adapter
	target    target.Target
	proof     proofWish
	orders    []order
	edges     []*api.EdgeLook // to be looked at as a client

	// bare: the control plane says that it wants nothing new, and not what was
	// wanted before. What is in place is shown and left alone.
	bare bool
}

type filesWish struct {
	directory, owner, group string
	mode                    fs.FileMode // of what holds a key
	formats                 []fleet.Format
	password                string // name
}

type proofWish struct {
	level            api.Level
	observe, timeout time.Duration
	minVersion       uint16
	groups           []string
	clientAuth       probe.ClientAuth
}

// idForm is what a placement's id looks like: it names a directory.
var idForm = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,127}$`)

func parseWish(d *api.DesiredPlacement) (*wish, error) {
	if !idForm.MatchString(d.GetPlacementId()) {
		return nil, fault.New(fault.Invalid, "placement id %q: must be letters, digits, '-', '_' and '.'", d.GetPlacementId())
	}
	w := &wish{intent: d.GetIntent(), service: d.GetService(), instance: d.GetInstance(), edges: d.GetEdges()}
	w.desired = rotation.Desired{
		Placement: d.GetPlacementId(), Identity: d.GetIdentity() != nil,
		KeyAge: d.GetProfile().GetKeyAge().AsDuration(), RideOut: d.GetProfile().GetRideOut().AsDuration(),
		Grace:        d.GetProfile().GetGrace().AsDuration(),
		Repair:       d.GetProfile() == nil || d.GetProfile().GetRepairDrift(),
		RenewThrough: d.GetRenewThrough(), NewKey: d.GetNewKey(), Attempt: d.GetAttempt(),
		Hold: d.GetHold(), Orphan: d.GetOrphan(), NeedsSlot: d.GetNeedsSlot(),
	}
	if d.GetRenewFrom() != nil {
		w.desired.RenewFrom = d.GetRenewFrom().AsTime()
	}
	if s := d.GetSlot(); s != nil {
		w.slot = leave{id: s.GetId(), revision: s.GetRevision(), within: s.GetStartWithin().AsDuration()}
	}
	if d.GetRenewAfter() != nil && d.GetRenewBefore() != nil {
		w.desired.Window = rotation.Window{Generation: d.GetWindowGeneration(),
			After: d.GetRenewAfter().AsTime(), Before: d.GetRenewBefore().AsTime()}
	} else {
		w.desired.Window.Generation = d.GetWindowGeneration()
	}
	if bare(d) {
		w.bare = true
		return w, nil
	}
	for _, part := range []func(*api.DesiredPlacement) error{w.parseBundles, w.parseLists, w.parseIdentity, w.parseFiles, w.parseTarget, w.parseProof, w.parseOrders} {
		if err := part(d); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// bare says whether a desire is only that nothing new be begun: of an orphan, or
// of a placement that can't be expanded, nothing else is said.
func bare(d *api.DesiredPlacement) bool {
	return d.GetBundleDigest() == "" && (d.GetOrphan() || d.GetHold() != "")
}

func (w *wish) parseBundles(d *api.DesiredPlacement) error {
	digest, err := pki.ParseBundleDigest(d.GetBundleDigest())
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "bundle of placement %s", d.GetPlacementId())
	}
	w.desired.Bundle = digest
	for _, text := range d.GetPeerBundleDigests() {
		peer, err := pki.ParseBundleDigest(text)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "peer bundle of placement %s", d.GetPlacementId())
		}
		if peer != digest && !slices.Contains(w.peers, peer) {
			w.peers = append(w.peers, peer)
		}
	}
	if d.GetBridgeDigest() == "" {
		return nil
	}
	if w.desired.Bridge, err = pki.ParseFingerprint(d.GetBridgeDigest()); err != nil {
		return fault.Wrap(fault.Invalid, err, "bridge of placement %s", d.GetPlacementId())
	}
	return nil
}

func (w *wish) parseLists(d *api.DesiredPlacement) error {
	w.staleCRL = fleet.OnStale(d.GetProfile().GetStaleCrl())
	w.staples = d.GetProfile().GetStaple()
	w.desired.Revoked = d.GetRevokedGenerations()
	for _, one := range []struct {
		name, digest string
		until        *timestamppb.Timestamp
		into         *rotation.Dated
	}{
		{"CRLs", d.GetCrlDigest(), d.GetCrlUntil(), &w.desired.CRL},
		{"staple", d.GetStapleDigest(), d.GetStapleUntil(), &w.desired.Staple},
	} {
		if one.digest == "" {
			continue
		}
		digest, err := pki.ParseFingerprint(one.digest)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "%s of placement %s", one.name, d.GetPlacementId())
		}
		if one.into.Digest = digest; one.until != nil {
			one.into.Until = one.until.AsTime()
		}
	}
	return nil
}

func (w *wish) parseIdentity(d *api.DesiredPlacement) error {
	id := d.GetIdentity()
	if id == nil {
		return nil
	}
	var err error
	if w.names, err = pki.ParseNames(id.GetCommonName(), id.GetDnsNames(), id.GetIpAddresses(), id.GetSpiffeId()); err != nil {
		return fault.Wrap(fault.Invalid, err, "identity of placement %s", d.GetPlacementId())
	}
	if w.algorithm, err = pki.ParseKeyAlgorithm(d.GetProfile().GetAlgorithm()); err != nil {
		return err
	}
	for _, usage := range d.GetProfile().GetUsages() {
		known, ok := usageNames[fleet.Usage(usage)]
		if !ok {
			return fault.New(fault.Invalid, "usage %q is unknown", usage).WithRemedy("use serverAuth or clientAuth")
		}
		w.usages = append(w.usages, known)
	}
	w.desired.Algorithm = string(w.algorithm)
	w.desired.Terms = rotation.TermsOf(string(w.algorithm), usageTexts(w.usages), w.names.Strings())
	return nil
}

func (w *wish) parseFiles(d *api.DesiredPlacement) error {
	f := d.GetFiles()
	w.files = filesWish{directory: f.GetDirectory(), owner: f.GetOwner(), group: f.GetGroup(), mode: 0o640, password: f.GetPassword()}
	if f.GetMode() != "" {
		mode, err := strconv.ParseUint(f.GetMode(), 8, 12)
		if err != nil || mode&^0o660 != 0 || mode&0o400 == 0 {
			return fault.New(fault.Invalid, "mode %q of key files: must be octal, readable by the owner, nothing for others", f.GetMode()).
				WithRemedy("write it like 0640")
		}
		w.files.mode = fs.FileMode(mode)
	}
	for _, format := range f.GetFormats() {
		if !slices.Contains([]fleet.Format{fleet.FormatPEM, fleet.FormatCombined, fleet.FormatPKCS12, fleet.FormatJKS}, fleet.Format(format)) {
			return fault.New(fault.Invalid, "format %q is unknown", format).WithRemedy("use pem, combined, pkcs12 or jks")
		}
		w.files.formats = append(w.files.formats, fleet.Format(format))
	}
	if len(w.files.formats) == 0 {
		w.files.formats = []fleet.Format{fleet.FormatPEM}
	}
	if w.keystores() && w.files.password == "" {
		return fault.New(fault.Invalid, "placement %s: pkcs12 and jks files need a password", d.GetPlacementId()).
			WithRemedy("name one in files.password of intent %s, and its file in agent.yaml", d.GetIntent())
	}
	return nil
}

func (w *wish) keystores() bool {
	return slices.Contains(w.files.formats, fleet.FormatPKCS12) || slices.Contains(w.files.formats, fleet.FormatJKS)
}

func (w *wish) parseTarget(d *api.DesiredPlacement) error {
	t := d.GetTarget()
	w.cluster = t.GetCluster()
	var err error
	if w.adapter, err = target.Lookup(fleet.TargetKind(t.GetKind())); err != nil {
		return err
	}
	w.target = target.Target{
		Name: t.GetName(), Directory: w.files.directory, ReloadCommand: t.GetReloadCommand(), RestartCommand: t.GetRestartCommand(),
		Address: t.GetAddress(), ServerName: t.GetServerName(), Preamble: probe.Preamble(t.GetPreamble()),
	}
	if !w.desired.CRL.None() {
		w.target.CRL = w.staleCRL
	}
	w.target.Staple = !w.desired.Staple.None()
	if w.target.Preamble == "" {
		w.target.Preamble = w.adapter.Preamble
	}
	if w.target.ServerName == "" && len(w.names.DNS) > 0 {
		w.target.ServerName = w.names.DNS[0]
	}
	return nil
}

func (w *wish) parseProof(d *api.DesiredPlacement) error {
	w.proof = proofWish{
		level: d.GetProof().GetLevel(), observe: d.GetProof().GetObserve().AsDuration(), timeout: d.GetProof().GetTimeout().AsDuration(),
		groups: d.GetProfile().GetGroups(), clientAuth: probe.ClientAuth(d.GetTarget().GetClientAuth()),
	}
	if w.proof.timeout <= 0 {
		w.proof.timeout = probe.DefaultProofTimeout
	}
	switch d.GetProfile().GetMinVersion() {
	case "1.3":
		w.proof.minVersion = tls.VersionTLS13
	case "", "1.2":
		w.proof.minVersion = tls.VersionTLS12
	default:
		return fault.New(fault.Invalid, "TLS version %q is unknown", d.GetProfile().GetMinVersion()).WithRemedy("use 1.2 or 1.3")
	}
	if w.proof.level == api.Level_LEVEL_PROVEN && (w.target.Address == "" || !w.desired.Identity) {
		return fault.New(fault.Invalid, "placement %s: level proven needs an identity and an address to shake hands with", d.GetPlacementId()).
			WithRemedy("set target.address of intent %s, or proof.level to loaded or delivered", d.GetIntent())
	}
	return nil
}

var usageNames = map[fleet.Usage]x509.ExtKeyUsage{
	fleet.ServerAuth: x509.ExtKeyUsageServerAuth,
	fleet.ClientAuth: x509.ExtKeyUsageClientAuth,
}

func usageTexts(usages []x509.ExtKeyUsage) []string {
	var texts []string
	for _, usage := range usages {
		text := "usage " + strconv.Itoa(int(usage))
		for name, known := range usageNames {
			if known == usage {
				text = string(name)
			}
		}
		texts = append(texts, text)
	}
	return texts
}

// leafOf says of a certificate what rotations go by.
func leafOf(cert *x509.Certificate) (rotation.Leaf, error) {
	algorithm, err := pki.AlgorithmOf(cert.PublicKey)
	if err != nil {
		return rotation.Leaf{}, err
	}
	serial, err := pki.SerialOf(cert)
	if err != nil {
		return rotation.Leaf{}, err
	}
	return rotation.Leaf{
		Serial:    serial.String(),
		Terms:     rotation.TermsOf(string(algorithm), usageTexts(cert.ExtKeyUsage), pki.NamesOf(cert).Strings()),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
	}, nil
}
