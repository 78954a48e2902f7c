package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

const kekSize = 32

// KEK is a key-encryption key: it seals the private keys that lie in the store.
// It comes from outside the store, so that a copy of the store alone gives
// nobody a key. It is safe for use by many goroutines.
type KEK struct {
	id   string
	aead cipher.AEAD
}

// Source says where a KEK is; exactly one field is set.
type Source struct {
	File       string // a path
	Credential string // the name of a systemd credential (LoadCredential=, LoadCredentialEncrypted=)
}

// NewKEKFile makes a KEK: 32 random bytes in base64, mode 0600. It never
// overwrites a file.
func NewKEKFile(path string) error {
	key := make([]byte, kekSize)
	rand.Read(key)
	return createSecret(path, "KEK file", []byte(base64.StdEncoding.EncodeToString(key)+"\n"))
}

// OpenKEK reads a KEK.
func OpenKEK(source Source) (*KEK, error) {
	switch {
	case source.File != "" && source.Credential != "":
		return nil, fault.New(fault.Invalid, "the KEK has two sources, a file and a credential; it needs one")
	case source.File != "":
		data, err := readSecret(source.File, "KEK file", notOwner)
		if err != nil {
			return nil, err
		}
		return parseKEK(data, source.File)
	case source.Credential != "":
		return openCredential(source.Credential)
	}
	return nil, fault.New(fault.Invalid, "the KEK has no source").WithRemedy("name a file or a systemd credential")
}

func openCredential(name string) (*KEK, error) {
	if !filepath.IsLocal(name) || strings.ContainsRune(name, '/') {
		return nil, fault.New(fault.Invalid, "credential %q must be a plain name", name)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fault.New(fault.Invalid, "credential %q: systemd gave this process no credentials ($CREDENTIALS_DIRECTORY is not set)", name).
			WithRemedy("put LoadCredential=%s:/path/to/kek into the unit", name)
	}
	data, err := readSecret(filepath.Join(dir, name), "credential", notOwnerOrList)
	if err != nil {
		return nil, err
	}
	return parseKEK(data, "credential "+name)
}

// parseKEK reads base64, as NewKEKFile writes it.
func parseKEK(data []byte, where string) (*KEK, error) {
	text := bytes.TrimSpace(data)
	key, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(key) != kekSize {
		return nil, fault.New(fault.Invalid, "the KEK in %s is damaged: it must be %d bytes in base64, %d characters; it has %d characters",
			where, kekSize, base64.StdEncoding.EncodedLen(kekSize), len(text)).
			WithRemedy("bring the right file back; without it the keys that it sealed are lost")
	}
	return newKEK(key)
}

func newKEK(key []byte) (*KEK, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("rotunda kek id\x00"), key...))
	return &KEK{id: hex.EncodeToString(sum[:8]), aead: aead}, nil
}

// ID names the KEK without telling anything of it: 16 hexadecimal digits.
func (k *KEK) ID() string { return k.id }

// sealVersion is the first byte of what Wrap returns; the rest is a 96-bit
// random nonce and the output of AES-256-GCM.
const sealVersion = 1

// Wrap seals plain. What it is bound to, aad, must be given again to open it.
func (k *KEK) Wrap(plain, aad []byte) ([]byte, error) {
	return k.aead.Seal([]byte{sealVersion}, nil, plain, aad), nil
}

// Unwrap opens what the KEK named kekID sealed.
func (k *KEK) Unwrap(kekID string, sealed, aad []byte) ([]byte, error) {
	if kekID != k.id {
		return nil, fault.New(fault.Conflict, "the key was sealed by KEK %s, and this server has KEK %s", kekID, k.id).
			WithRemedy("give the server the file or credential of KEK %s", kekID)
	}
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, fault.New(fault.Internal, "a key sealed by KEK %s is damaged: its form is unknown", kekID)
	}
	plain, err := k.aead.Open(nil, nil, sealed[1:], aad)
	if err != nil {
		return nil, fault.New(fault.Internal, "a key sealed by KEK %s does not open: its bytes, or the record that it is bound to, were altered", kekID).
			WithRemedy("restore the store from a backup")
	}
	return plain, nil
}
