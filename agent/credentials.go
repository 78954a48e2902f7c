package agent

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
)

// The agent keeps its own copy of each live generation's key and chain, and of
// each bundle, bridge, CRLs and staple that a revision holds. From them a revision can be written anew
// when someone edited its files, with no server to ask.

func keyName(generation uint64) string   { return fmt.Sprintf("gen-%06d.key.pem", generation) }
func chainName(generation uint64) string { return fmt.Sprintf("gen-%06d.chain.pem", generation) }
func bundleName(d pki.BundleDigest) string {
	return "bundle-" + d.String() + ".pem"
}
func bridgeName(f pki.Fingerprint) string { return "bridge-" + f.String() + ".pem" }
func crlsName(f pki.Fingerprint) string   { return "crl-" + f.String() + ".pem" }
func stapleName(f pki.Fingerprint) string { return "staple-" + f.String() + ".der" }

func (d drawer) saveKey(generation uint64, key crypto.Signer) error {
	content, err := pki.EncodeKeyPEM(key)
	if err != nil {
		return err
	}
	return durable.WriteFile(d.root, d.path(keyName(generation)), content, 0o600, nil)
}

func (d drawer) key(generation uint64) (crypto.Signer, error) {
	content, err := d.root.ReadFile(d.path(keyName(generation)))
	if err != nil {
		return nil, fmt.Errorf("read key of generation %d: %w", generation, err)
	}
	return pki.ParseKeyPEM(content)
}

func (d drawer) saveChain(generation uint64, chain pki.Chain) error {
	return durable.WriteFile(d.root, d.path(chainName(generation)), chain.PEM(), 0o600, nil)
}

func (d drawer) chain(generation uint64) (pki.Chain, error) {
	content, err := d.root.ReadFile(d.path(chainName(generation)))
	if err != nil {
		return pki.Chain{}, fmt.Errorf("read chain of generation %d: %w", generation, err)
	}
	certificates, err := pki.ParseCertificatesPEM(content)
	if err != nil {
		return pki.Chain{}, err
	}
	return pki.Chain{Leaf: certificates[0], Intermediates: certificates[1:]}, nil
}

func (d drawer) saveBundle(b pki.Bundle) error {
	if _, err := d.bundle(b.Digest()); err == nil {
		return nil
	}
	return durable.WriteFile(d.root, d.path(bundleName(b.Digest())), b.PEM(), 0o600, nil)
}

func (d drawer) bundle(digest pki.BundleDigest) (pki.Bundle, error) {
	content, err := d.root.ReadFile(d.path(bundleName(digest)))
	if err != nil {
		return pki.Bundle{}, fmt.Errorf("read bundle %s: %w", digest, err)
	}
	b, err := pki.ParseBundlePEM(content)
	if err == nil && b.Digest() != digest {
		err = fmt.Errorf("bundle %s: its file holds another one", digest)
	}
	return b, err
}

// saveBridge keeps a bridge by its fingerprint.
func (d drawer) saveBridge(bridge *x509.Certificate) error {
	digest := pki.FingerprintOf(bridge.Raw)
	if _, err := d.bridge(digest); err == nil {
		return nil
	}
	return durable.WriteFile(d.root, d.path(bridgeName(digest)), pki.EncodeCertificatesPEM(bridge.Raw), 0o600, nil)
}

func (d drawer) bridge(digest pki.Fingerprint) (*x509.Certificate, error) {
	content, err := d.root.ReadFile(d.path(bridgeName(digest)))
	if err != nil {
		return nil, fmt.Errorf("read bridge %s: %w", digest, err)
	}
	return parseBridge(digest.String(), content)
}

func (d drawer) saveCRLs(crls pki.CRLs) error {
	if _, err := d.crls(crls.Digest()); err == nil {
		return nil
	}
	return durable.WriteFile(d.root, d.path(crlsName(crls.Digest())), crls.PEM(), 0o600, nil)
}

func (d drawer) crls(digest pki.Fingerprint) (pki.CRLs, error) {
	content, err := d.root.ReadFile(d.path(crlsName(digest)))
	if err != nil {
		return pki.CRLs{}, fmt.Errorf("read CRLs %s: %w", digest, err)
	}
	crls, err := pki.ParseCRLsPEM(content)
	if err == nil && crls.Digest() != digest {
		err = fmt.Errorf("CRLs %s: their file holds others", digest)
	}
	return crls, err
}

func (d drawer) saveStaple(staple pki.Staple) error {
	digest := pki.FingerprintOf(staple.DER)
	if _, err := d.staple(digest); err == nil {
		return nil
	}
	return durable.WriteFile(d.root, d.path(stapleName(digest)), staple.DER, 0o600, nil)
}

func (d drawer) staple(digest pki.Fingerprint) (pki.Staple, error) {
	content, err := d.root.ReadFile(d.path(stapleName(digest)))
	if err != nil {
		return pki.Staple{}, fmt.Errorf("read staple %s: %w", digest, err)
	}
	if pki.FingerprintOf(content) != digest {
		return pki.Staple{}, fmt.Errorf("staple %s: its file holds another", digest)
	}
	return pki.ParseStaple(content)
}

// destroy deletes key and chain of a generation. The key's bytes are not
// overwritten: on the file systems of today that reaches other blocks.
func (d drawer) destroy(generation uint64) error {
	if err := durable.Remove(d.root, d.path(keyName(generation))); err != nil {
		return err
	}
	return durable.Remove(d.root, d.path(chainName(generation)))
}

// sweep deletes keys, chains, bundles, bridges, CRLs and staples that the record does not name: what a
// crash left between a file and its record.
func (d drawer) sweep(r *record) error {
	keep := map[string]bool{}
	for _, g := range r.Generations {
		keep[keyName(g.Number)], keep[chainName(g.Number)] = true, true
	}
	for _, v := range r.Revisions {
		keep[bundleName(v.Bundle)], keep[bridgeName(v.Bridge)] = true, true
		keep[crlsName(v.CRL.Digest)], keep[stapleName(v.Staple.Digest)] = true, true
	}
	names, err := d.list()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		kind, _, ours := strings.Cut(name, "-")
		if ours && slices.Contains(kept, kind) && !keep[name] {
			err = errors.Join(err, durable.Remove(d.root, d.path(name)))
		}
	}
	return err
}

// kept is how the names of what the agent keeps begin.
var kept = []string{"gen", "bundle", "bridge", "crl", "staple"}

func (d drawer) list() ([]string, error) {
	f, err := d.root.Open(d.dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// credential is what a revision lets a process show, with the chain as it is to
// be sent.
type credential struct {
	key   crypto.Signer
	chain pki.Chain
}

// credential reads a revision's; nil for one of a bundle alone.
func (d drawer) credential(v rotation.Revision) (*credential, error) {
	if v.Generation == 0 {
		return nil, nil
	}
	key, err := d.key(v.Generation)
	if err != nil {
		return nil, err
	}
	chain, err := d.chain(v.Generation)
	if err != nil || v.Bridge.IsZero() {
		return &credential{key, chain}, err
	}
	bridge, err := d.bridge(v.Bridge)
	if err != nil {
		return nil, err
	}
	return &credential{key, chain.With(bridge)}, nil
}
