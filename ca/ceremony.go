package ca

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// A ceremony is how an issuing authority comes to be where the root's key is
// not: the server makes the issuing key and a request, whoever holds the root's
// key answers it elsewhere, and the server checks the answer as if it came from
// anybody. Files carry both; neither holds a secret.

// CeremonyOrder says what a ceremony is to bring about.
type CeremonyOrder struct {
	PublicURL string            // base of the addresses that the certificates carry
	Issuing   IssuingOrder      // Algorithm is of the key that RequestIssuing makes
	NewRoot   *NewRoot          // the root is made first; or nil, and
	Root      *x509.Certificate // this one signs
	Bridge    *BridgeOrder      // nil: none is wanted
}

// NewRoot says what a root that a ceremony makes is to be like. Its trust domain
// is the issuing authority's.
type NewRoot struct {
	Name      string
	Algorithm pki.KeyAlgorithm
	Lifetime  time.Duration
}

// BridgeOrder asks for the root's certificate by an older root. There may be
// none in the answer: see CheckBridge.
type BridgeOrder struct {
	Old   *x509.Certificate
	OldID string // in the store; may be empty, as IssuingOrder's ParentID
}

// CeremonyRequest is an order and the request for the issuing key.
type CeremonyRequest struct {
	CeremonyOrder
	CSR *x509.CertificateRequest
}

// CeremonyResponse is what a ceremony brought about. It is worth nothing before
// CheckResponse.
type CeremonyResponse struct {
	Request RequestDigest // that it answers
	Root    *x509.Certificate
	Issuing *x509.Certificate
	Bridge  *x509.Certificate // nil: there is none
	RootCRL []byte            // DER: that a new root has revoked nothing; nil: none was signed
}

// RequestIssuing makes the key of the issuing authority and the request to take
// to the ceremony. The key stays here.
func RequestIssuing(order CeremonyOrder) (CeremonyRequest, crypto.Signer, error) {
	if err := order.check(); err != nil {
		return CeremonyRequest{}, nil, err
	}
	order, err := order.withAlgorithms()
	if err != nil {
		return CeremonyRequest{}, nil, err
	}
	key, err := generate(order.Issuing.Algorithm)
	if err != nil {
		return CeremonyRequest{}, nil, err
	}
	der, err := pki.NewCSR(key)
	if err != nil {
		return CeremonyRequest{}, nil, err
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		return CeremonyRequest{}, nil, err
	}
	return CeremonyRequest{order, csr}, key, nil
}

// SignIssuing makes the issuing authority that was requested; root is the one
// that the request names, or that was made for it.
func SignIssuing(now time.Time, root *x509.Certificate, rootKey crypto.Signer, request CeremonyRequest) (*x509.Certificate, error) {
	if err := request.check(); err != nil {
		return nil, err
	}
	if err := request.checkRoot(root); err != nil {
		return nil, err
	}
	return signIssuing(now, root, rootKey, request.Issuing, request.CSR.PublicKey, request.PublicURL)
}

// withAlgorithms names the defaults, so that who reads the request sees them.
func (o CeremonyOrder) withAlgorithms() (CeremonyOrder, error) {
	var err error
	if o.Issuing.Algorithm, err = pki.ParseKeyAlgorithm(string(o.Issuing.Algorithm)); err != nil {
		return o, err
	}
	if o.NewRoot != nil {
		named := *o.NewRoot
		named.Algorithm, err = pki.ParseKeyAlgorithm(string(named.Algorithm))
		o.NewRoot = &named
	}
	return o, err
}

// check holds an order to what can be known before the ceremony, so that it
// does not fail there.
func (o CeremonyOrder) check() error {
	if _, err := parsePublicURL(o.PublicURL); err != nil {
		return err
	}
	if err := checkAuthority(o.Issuing.TrustDomain, o.Issuing.Name, o.Issuing.Lifetime); err != nil {
		return err
	}
	if err := constrain(&x509.Certificate{}, o.Issuing); err != nil {
		return err
	}
	if o.Issuing.ParentID != "" {
		if err := checkID(o.Issuing.ParentID); err != nil {
			return err
		}
	}
	if (o.NewRoot == nil) == (o.Root == nil) {
		return fault.New(fault.Invalid, "a ceremony must either make a new root or name the one that signs")
	}
	if o.NewRoot != nil {
		if err := o.checkNewRoot(); err != nil {
			return err
		}
	}
	return o.checkRoots()
}

func (o CeremonyOrder) checkNewRoot() error {
	if err := checkAuthority(o.Issuing.TrustDomain, o.NewRoot.Name, o.NewRoot.Lifetime); err != nil {
		return fault.Wrap(fault.Invalid, err, "new root")
	}
	if o.NewRoot.Name == o.Issuing.Name {
		return fault.New(fault.Invalid, "the root and its issuing authority are both to be named %q", o.NewRoot.Name).
			WithRemedy("give each a name of its own; chains are built by names")
	}
	_, err := pki.ParseKeyAlgorithm(string(o.NewRoot.Algorithm))
	return err
}

// checkRoots looks at the roots that exist already.
func (o CeremonyOrder) checkRoots() error {
	var roots []*x509.Certificate
	if o.Root != nil {
		roots = append(roots, o.Root)
	}
	if o.Bridge != nil {
		if o.Bridge.Old == nil {
			return fault.New(fault.Invalid, "a bridge needs the old root's certificate")
		}
		if o.Bridge.OldID != "" {
			if err := checkID(o.Bridge.OldID); err != nil {
				return err
			}
		}
		roots = append(roots, o.Bridge.Old)
	}
	if len(roots) == 0 {
		return nil
	}
	_, err := pki.NewBundle(roots)
	return err
}

func (r CeremonyRequest) check() error {
	if err := r.CeremonyOrder.check(); err != nil {
		return err
	}
	if r.CSR == nil {
		return fault.New(fault.Invalid, "a ceremony needs a certificate request for the issuing key")
	}
	csr, err := pki.ParseCSR(r.CSR.Raw)
	if err != nil {
		return err
	}
	if !sameKey(csr.PublicKey, r.CSR.PublicKey) {
		return fault.New(fault.Invalid, "the certificate request was changed after it was parsed")
	}
	got, err := pki.AlgorithmOf(csr.PublicKey)
	if err != nil {
		return err
	}
	want, err := pki.ParseKeyAlgorithm(string(r.Issuing.Algorithm))
	if err != nil {
		return err
	}
	if got != want {
		return fault.New(fault.Invalid, "the issuing key is to be %s, the certificate request is for one of %s", want, got)
	}
	return nil
}

// checkRoot tells whether root is the one that the request is for.
func (r CeremonyRequest) checkRoot(root *x509.Certificate) error {
	if r.Root != nil {
		if !r.Root.Equal(root) {
			return fault.New(fault.Conflict, "the request is for the root %q (%s), not for %q (%s)",
				r.Root.Subject, pki.FingerprintOf(r.Root.Raw), root.Subject, pki.FingerprintOf(root.Raw))
		}
		return nil
	}
	return r.checkMadeRoot(root)
}

// checkMadeRoot tells whether root is the new one that was asked for.
func (r CeremonyRequest) checkMadeRoot(root *x509.Certificate) error {
	refuse := func(format string, args ...any) error {
		return fault.Wrap(fault.Invalid, fault.New(fault.Invalid, format, args...), "the new root is not as requested")
	}
	if _, err := pki.NewBundle([]*x509.Certificate{root}); err != nil {
		return fault.Wrap(fault.Invalid, err, "the new root is not as requested")
	}
	want, err := pki.ParseKeyAlgorithm(string(r.NewRoot.Algorithm))
	if err != nil {
		return err
	}
	got, err := pki.AlgorithmOf(root.PublicKey)
	limit, limited := pathLength(root)
	switch {
	case err != nil:
		return fault.Wrap(fault.Invalid, err, "the new root is not as requested")
	case got != want:
		return refuse("its key is %s, not %s", got, want)
	case !isNamed(root, authorityName(r.Issuing.TrustDomain, r.NewRoot.Name)):
		return refuse("its name is %q, not %q", root.Subject, authorityName(r.Issuing.TrustDomain, r.NewRoot.Name))
	case len(root.SubjectKeyId) == 0:
		return refuse("it has no subject key identifier")
	case limited && limit < belowOld:
		return refuse("it allows %d authorities below it; the bridge of its successor needs %d", limit, belowOld)
	case root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign:
		return refuse("its keyUsage must be keyCertSign and cRLSign")
	case !forTLS(root):
		return refuse("its extended key usages leave out serverAuth or clientAuth")
	case livesLonger(root, r.NewRoot.Lifetime):
		return refuse("it is valid from %s to %s, which is more than %s", stamp(root.NotBefore), stamp(root.NotAfter), r.NewRoot.Lifetime)
	}
	return nil
}
