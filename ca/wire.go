package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// The kinds of the files that go to a ceremony and come back.
const (
	RequestKind  = "rotunda.authority.request/v1"
	ResponseKind = "rotunda.authority.response/v1"
)

// MaxCeremony is the most bytes that either file may have.
const MaxCeremony = 256 << 10

// RequestDigest is the SHA-256 of a request as Encode writes it.
type RequestDigest [sha256.Size]byte

// String is 64 lower-case hexadecimal digits.
func (d RequestDigest) String() string { return hex.EncodeToString(d[:]) }

type requestFile struct {
	Kind        string       `json:"kind"`
	TrustDomain string       `json:"trustDomain"`
	PublicURL   string       `json:"publicURL"`
	NewRoot     *newRootFile `json:"newRoot,omitempty"`
	Root        string       `json:"root,omitempty"` // PEM
	RootID      string       `json:"rootID,omitempty"`
	Issuing     issuingFile  `json:"issuing"`
	Bridge      *bridgeFile  `json:"bridge,omitempty"`
}

type newRootFile struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Lifetime  string `json:"lifetime"` // as Go writes durations
}

type issuingFile struct {
	Name         string   `json:"name"`
	Algorithm    string   `json:"algorithm"`
	Lifetime     string   `json:"lifetime"`
	PermittedDNS []string `json:"permittedDNS,omitempty"`
	PermittedIPs []string `json:"permittedIPs,omitempty"`
	CSR          string   `json:"csr"` // PEM
}

type bridgeFile struct {
	From string `json:"from"` // PEM of the old root
	ID   string `json:"id,omitempty"`
}

type responseFile struct {
	Kind    string `json:"kind"`
	Request string `json:"request"` // digest of the request, hexadecimal
	Root    string `json:"root"`    // PEM, as all below
	Issuing string `json:"issuing"`
	Bridge  string `json:"bridge,omitempty"`
	RootCRL []byte `json:"rootCRL,omitempty"` // DER, base64
}

// Encode writes the request as a file: JSON, always the same for the same
// request.
func (r CeremonyRequest) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	file := requestFile{
		Kind: RequestKind, TrustDomain: r.Issuing.TrustDomain.Name(), PublicURL: r.PublicURL,
		Root: encodePEM(r.Root), RootID: r.Issuing.ParentID,
		Issuing: issuingFile{
			Name: r.Issuing.Name, Algorithm: string(r.Issuing.Algorithm), Lifetime: r.Issuing.Lifetime.String(),
			PermittedDNS: r.Issuing.PermittedDNS, CSR: string(pki.EncodeCSRPEM(r.CSR.Raw)),
		},
	}
	for _, p := range r.Issuing.PermittedIPs {
		file.Issuing.PermittedIPs = append(file.Issuing.PermittedIPs, p.String())
	}
	if n := r.NewRoot; n != nil {
		file.NewRoot = &newRootFile{n.Name, string(n.Algorithm), n.Lifetime.String()}
	}
	if b := r.Bridge; b != nil {
		file.Bridge = &bridgeFile{encodePEM(b.Old), b.OldID}
	}
	return encodeFile(file)
}

// Digest names the request by its content.
func (r CeremonyRequest) Digest() (RequestDigest, error) {
	data, err := r.Encode()
	return sha256.Sum256(data), err
}

// ParseCeremonyRequest reads what Encode wrote, whatever was done to its white
// space, and nothing else.
func ParseCeremonyRequest(data []byte) (CeremonyRequest, error) {
	var file requestFile
	if err := decodeFile(data, &file); err != nil {
		return CeremonyRequest{}, err
	}
	if file.Kind != RequestKind {
		return CeremonyRequest{}, refuseKind(file.Kind, RequestKind)
	}
	request, err := file.request()
	if err != nil {
		return CeremonyRequest{}, fault.Wrap(fault.Invalid, err, "ceremony request")
	}
	again, err := request.Encode()
	if err != nil {
		return CeremonyRequest{}, fault.Wrap(fault.Invalid, err, "ceremony request")
	}
	return request, sameFile(data, again)
}

func (f requestFile) request() (r CeremonyRequest, err error) {
	r.PublicURL = f.PublicURL
	r.Issuing = IssuingOrder{ParentID: f.RootID, Name: f.Issuing.Name, Algorithm: pki.KeyAlgorithm(f.Issuing.Algorithm), PermittedDNS: f.Issuing.PermittedDNS}
	if r.Issuing.TrustDomain, err = spiffeid.TrustDomainFromString(f.TrustDomain); err != nil {
		return r, err
	}
	if r.Issuing.Lifetime, err = time.ParseDuration(f.Issuing.Lifetime); err != nil {
		return r, err
	}
	for _, text := range f.Issuing.PermittedIPs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return r, err
		}
		r.Issuing.PermittedIPs = append(r.Issuing.PermittedIPs, p)
	}
	if r.CSR, err = pki.ParseCSRPEM([]byte(f.Issuing.CSR)); err != nil {
		return r, err
	}
	if f.NewRoot != nil {
		r.NewRoot = &NewRoot{Name: f.NewRoot.Name, Algorithm: pki.KeyAlgorithm(f.NewRoot.Algorithm)}
		if r.NewRoot.Lifetime, err = time.ParseDuration(f.NewRoot.Lifetime); err != nil {
			return r, err
		}
	}
	if r.Root, err = decodePEM(f.Root); err != nil {
		return r, fault.Wrap(fault.Invalid, err, "root")
	}
	if f.Bridge != nil {
		r.Bridge = &BridgeOrder{OldID: f.Bridge.ID}
		if r.Bridge.Old, err = decodePEM(f.Bridge.From); err != nil {
			return r, fault.Wrap(fault.Invalid, err, "old root")
		}
	}
	return r, nil
}

// Encode writes the response as a file.
func (r CeremonyResponse) Encode() ([]byte, error) {
	if r.Root == nil || r.Issuing == nil {
		return nil, fault.New(fault.Invalid, "a ceremony response must have a root and an issuing authority")
	}
	return encodeFile(responseFile{ResponseKind, r.Request.String(), encodePEM(r.Root), encodePEM(r.Issuing), encodePEM(r.Bridge), r.RootCRL})
}

// ParseCeremonyResponse reads what Encode wrote, as ParseCeremonyRequest does.
func ParseCeremonyResponse(data []byte) (CeremonyResponse, error) {
	var file responseFile
	if err := decodeFile(data, &file); err != nil {
		return CeremonyResponse{}, err
	}
	if file.Kind != ResponseKind {
		return CeremonyResponse{}, refuseKind(file.Kind, ResponseKind)
	}
	response, err := file.response()
	if err != nil {
		return CeremonyResponse{}, fault.Wrap(fault.Invalid, err, "ceremony response")
	}
	again, err := response.Encode()
	if err != nil {
		return CeremonyResponse{}, err
	}
	return response, sameFile(data, again)
}

func (f responseFile) response() (r CeremonyResponse, err error) {
	digest, err := hex.DecodeString(f.Request)
	if err != nil || len(digest) != len(r.Request) {
		return r, fault.New(fault.Invalid, "the digest of the request must be %d hexadecimal digits", hex.EncodedLen(len(r.Request)))
	}
	copy(r.Request[:], digest)
	if r.Root, err = decodePEM(f.Root); err != nil {
		return r, fault.Wrap(fault.Invalid, err, "root")
	}
	if r.Issuing, err = decodePEM(f.Issuing); err != nil {
		return r, fault.Wrap(fault.Invalid, err, "issuing authority")
	}
	if r.Bridge, err = decodePEM(f.Bridge); err != nil {
		return r, fault.Wrap(fault.Invalid, err, "bridge")
	}
	r.RootCRL = f.RootCRL
	return r, nil
}

func encodeFile(file any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(file); err != nil {
		return nil, err
	}
	if out.Len() > MaxCeremony {
		return nil, fault.New(fault.Invalid, "the ceremony's file has %d bytes; the most is %d", out.Len(), MaxCeremony)
	}
	return out.Bytes(), nil
}

func decodeFile(data []byte, file any) error {
	if len(data) > MaxCeremony {
		return fault.New(fault.Invalid, "the ceremony's file has %d bytes; the most is %d", len(data), MaxCeremony)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(file); err != nil {
		return fault.Wrap(fault.Invalid, err, "the ceremony's file does not parse")
	}
	return nil
}

// sameFile refuses what encoding/json would let pass: fields that stand twice
// or in other case, text behind the end, another form of a name or number.
func sameFile(data, canonical []byte) error {
	var got, want bytes.Buffer
	if json.Compact(&got, data) != nil || json.Compact(&want, canonical) != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		return fault.New(fault.Invalid, "the ceremony's file is not as it was written").WithRemedy("carry it over unchanged")
	}
	return nil
}

func refuseKind(got, want string) error {
	return fault.New(fault.Invalid, "the ceremony's file is of kind %q; it must be %q", got, want)
}

// encodePEM writes one certificate; none is the empty text.
func encodePEM(cert *x509.Certificate) string {
	if cert == nil {
		return ""
	}
	return string(pki.EncodeCertificatesPEM(cert.Raw))
}

func decodePEM(text string) (*x509.Certificate, error) {
	if text == "" {
		return nil, nil
	}
	certs, err := pki.ParseCertificatesPEM([]byte(text))
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fault.New(fault.Invalid, "there are %d certificates; there must be one", len(certs))
	}
	return certs[0], nil
}
