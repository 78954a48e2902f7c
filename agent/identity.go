package agent

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Files of the identity directory.
const (
	currentFile   = "current"
	previousFile  = "previous"
	enrolmentFile = "enrolment" // token and key of an enrolment under way
	renewalFile   = "renewal"   // key of a renewal under way
)

// Identity is who the agent is: an immutable snapshot.
type Identity struct {
	AgentID     string
	TrustDomain spiffeid.TrustDomain
	Token       string // id of the token that enrolled it
	LogKey      string // verifier key of the audit log
	Obtained    time.Time
	Key         crypto.Signer
	Chain       pki.Chain  // its own certificate first
	Anchors     pki.Bundle // by which it trusts servers
}

// identityFile is an identity on disk: one file, so that key, chain and anchors
// can't be of different days.
type identityFile struct {
	Agent       string    `json:"agent"`
	TrustDomain string    `json:"trustDomain"`
	Token       string    `json:"token"`
	LogKey      string    `json:"logKey"`
	Obtained    time.Time `json:"obtained"`
	Key         string    `json:"key"`
	Chain       string    `json:"chain"`
	Anchors     string    `json:"anchors"`
}

func (i *Identity) encode() ([]byte, error) {
	key, err := pki.EncodeKeyPEM(i.Key)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(identityFile{
		Agent: i.AgentID, TrustDomain: i.TrustDomain.Name(), Token: i.Token, LogKey: i.LogKey, Obtained: i.Obtained,
		Key: string(key), Chain: string(pki.EncodeCertificatesPEM(i.Chain.DER()...)), Anchors: string(i.Anchors.PEM()),
	}, "", "  ")
}

// decodeIdentity reads what encode wrote and checks that its parts belong
// together. It does not look at the clock: who has expired is still someone.
func decodeIdentity(data []byte) (*Identity, error) {
	var file identityFile
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, err
	}
	i := &Identity{AgentID: file.Agent, Token: file.Token, LogKey: file.LogKey, Obtained: file.Obtained}
	var err error
	if i.TrustDomain, err = spiffeid.TrustDomainFromString(file.TrustDomain); err != nil {
		return nil, err
	}
	if i.Key, err = pki.ParseKeyPEM([]byte(file.Key)); err != nil {
		return nil, err
	}
	certs, err := pki.ParseCertificatesPEM([]byte(file.Chain))
	if err != nil {
		return nil, err
	}
	i.Chain = pki.Chain{Leaf: certs[0], Intermediates: certs[1:]}
	if i.Anchors, err = pki.ParseBundlePEM([]byte(file.Anchors)); err != nil {
		return nil, err
	}
	return i, i.belongsTogether()
}

// belongsTogether checks that the key is the certificate's and the certificate
// this agent's.
func (i *Identity) belongsTogether() error {
	if !pki.KeyMatches(i.Key, i.Chain.Leaf) {
		return errors.New("the key is not the certificate's")
	}
	want, err := pki.AgentID(i.TrustDomain, i.AgentID)
	if err != nil {
		return err
	}
	if got := pki.NamesOf(i.Chain.Leaf).URI; got != want.String() {
		return fmt.Errorf("the certificate is of %q, not of %q", got, want)
	}
	return nil
}

// verify checks that the identity can be used now.
func (i *Identity) verify(now time.Time) error {
	if err := i.belongsTogether(); err != nil {
		return err
	}
	return i.Chain.Verify(i.Anchors, x509.ExtKeyUsageClientAuth, now)
}

// NotAfter is the end of the agent's own certificate.
func (i *Identity) NotAfter() time.Time { return i.Chain.Leaf.NotAfter }

func (i *Identity) certificate() *tls.Certificate {
	return &tls.Certificate{Certificate: i.Chain.DER(), PrivateKey: i.Key, Leaf: i.Chain.Leaf}
}

// withAnchors is the identity with another bundle to trust servers by.
func (i *Identity) withAnchors(anchors pki.Bundle) *Identity {
	copied := *i
	copied.Anchors = anchors
	return &copied
}

// sign makes evidence of a statement.
func (i *Identity) sign(statement []byte) (*api.Evidence, error) {
	message, hash := statement, crypto.Hash(0)
	if _, ok := i.Key.Public().(ed25519.PublicKey); !ok {
		digest := sha256.Sum256(statement)
		message, hash = digest[:], crypto.SHA256
	}
	signature, err := i.Key.Sign(rand.Reader, message, hash)
	if err != nil {
		return nil, fmt.Errorf("sign evidence: %w", err)
	}
	return &api.Evidence{Statement: statement, Signature: signature, Observer: i.AgentID}, nil
}

// vouches says whether evidence carries this identity's signature.
func (i *Identity) vouches(e *api.Evidence) bool {
	switch key := i.Key.Public().(type) {
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(e.Statement)
		return ecdsa.VerifyASN1(key, digest[:], e.Signature)
	case ed25519.PublicKey:
		return ed25519.Verify(key, e.Statement, e.Signature)
	}
	return false
}

// identities keeps the agent's identity on disk and in memory. While a renewed
// one has not worked yet, the one before it is kept beside it.
type identities struct {
	dir *os.Root

	current  atomic.Pointer[Identity] // nil: not enrolled
	replaced chan struct{}            // gets a token when current has changed

	mu       sync.Mutex
	previous *Identity
}

// openIdentities reads what is there. A current identity that can't be read
// gives way to the previous one; when there is none either, the error says how
// to come back.
func openIdentities(dir *os.Root) (*identities, error) {
	s := &identities{dir: dir, replaced: make(chan struct{}, 1)}
	current, currentErr := s.read(currentFile)
	previous, previousErr := s.read(previousFile)
	if errors.Is(currentErr, fs.ErrNotExist) && errors.Is(previousErr, fs.ErrNotExist) {
		return s, nil
	}
	switch {
	case currentErr == nil:
		s.current.Store(current)
		// A crash within replace leaves two of the same.
		if previousErr == nil && !previous.Chain.Leaf.Equal(current.Chain.Leaf) {
			s.previous = previous
		}
	case previousErr == nil:
		s.current.Store(previous)
	default:
		return s, fault.Wrap(fault.Conflict, currentErr, "identity in %s", dir.Name()).
			WithRemedy("on the control plane: rotunda agent list, rotunda agent rejoin ID; start this agent with that token")
	}
	return s, nil
}

func (s *identities) read(name string) (*Identity, error) {
	data, err := s.dir.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return decodeIdentity(data)
}

func (s *identities) write(name string, i *Identity) error {
	data, err := i.encode()
	if err != nil {
		return err
	}
	return durable.WriteFile(s.dir, name, data, 0o600, nil)
}

// replace makes next the current identity; what was current stays beside it
// until confirm or revert. A crash in between leaves either, whole.
func (s *identities) replace(next *Identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.current.Load()
	if old != nil {
		if err := s.write(previousFile, old); err != nil {
			return fmt.Errorf("keep previous identity: %w", err)
		}
	}
	if err := s.write(currentFile, next); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	s.previous = old
	s.publish(next)
	return nil
}

// trust replaces the anchors of the current identity.
func (s *identities) trust(anchors pki.Bundle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.current.Load().withAnchors(anchors)
	if err := s.write(currentFile, next); err != nil {
		return fmt.Errorf("keep anchors: %w", err)
	}
	s.current.Store(next)
	return nil
}

// confirm says that the current identity has worked: the previous one goes.
func (s *identities) confirm(worked *Identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.previous == nil || !worked.Chain.Leaf.Equal(s.current.Load().Chain.Leaf) {
		return nil
	}
	if err := durable.Remove(s.dir, previousFile); err != nil {
		return err
	}
	s.previous = nil
	return nil
}

// revert goes back to the previous identity.
func (s *identities) revert() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.previous == nil {
		return nil
	}
	if err := s.write(currentFile, s.previous); err != nil {
		return fmt.Errorf("go back to the previous identity: %w", err)
	}
	s.publish(s.previous)
	s.previous = nil
	return durable.Remove(s.dir, previousFile)
}

// fallback is the previous identity while it is kept, or nil.
func (s *identities) fallback() *Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.previous
}

func (s *identities) publish(i *Identity) {
	s.current.Store(i)
	select {
	case s.replaced <- struct{}{}:
	default: // one is waiting already
	}
}

// pendingKey returns the key that lies in the file under the label, or makes
// one and keeps it there before anybody is asked to certify it: a question
// whose answer was lost can be asked again and is the same question.
func (s *identities) pendingKey(file, label string) (crypto.Signer, error) {
	var pending struct {
		Label string `json:"label"`
		Key   string `json:"key"`
	}
	if data, err := s.dir.ReadFile(file); err == nil && json.Unmarshal(data, &pending) == nil && pending.Label == label {
		if key, err := pki.ParseKeyPEM([]byte(pending.Key)); err == nil {
			return key, nil
		}
	}
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return nil, err
	}
	encoded, err := pki.EncodeKeyPEM(key)
	if err != nil {
		return nil, err
	}
	pending.Label, pending.Key = label, string(encoded)
	data, err := json.Marshal(pending)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(s.dir, file, data, 0o600, nil); err != nil {
		return nil, fmt.Errorf("keep a new key: %w", err)
	}
	return key, nil
}
