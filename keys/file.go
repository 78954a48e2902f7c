package keys

import (
	"bytes"
	"crypto"
	"errors"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// The cost of a passphrase, as a power of two. At 18 one guess takes about a
// second and 256 MiB. What costs more than 20 is refused: it would be a file
// made to exhaust the reader.
const (
	workFactor    = 18
	maxWorkFactor = 20
)

// CreateFile makes a key of the algorithm and a new file with it, mode 0600:
// PKCS #8 in PEM, or with a passphrase the same inside an armored age file.
func CreateFile(path string, alg pki.KeyAlgorithm, passphrase []byte) (crypto.Signer, error) {
	if passphrase != nil && len(passphrase) == 0 {
		return nil, fault.New(fault.Invalid, "key file %q: the passphrase is empty", path)
	}
	key, err := alg.Generate()
	if err != nil {
		return nil, err
	}
	data, err := pki.EncodeKeyPEM(key)
	if err != nil {
		return nil, err
	}
	if passphrase != nil {
		if data, err = encrypt(data, passphrase, workFactor); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "encrypt key file %q", path)
		}
	}
	if err := createSecret(path, "key file", data); err != nil {
		return nil, err
	}
	return key, nil
}

// OpenFile reads a key that CreateFile wrote, or any that pki.ParseKeyPEM
// takes. It asks for the passphrase only when the file needs one; with a nil
// passphrase such a file is refused.
func OpenFile(path string, passphrase func() ([]byte, error)) (crypto.Signer, error) {
	data, err := readSecret(path, "key file", notOwner)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte(armor.Header)) {
		if passphrase == nil {
			return nil, fault.New(fault.Invalid, "key file %q is protected by a passphrase, and there is nobody to ask", path)
		}
		word, err := passphrase()
		if err != nil {
			return nil, err
		}
		if data, err = decrypt(data, word); err != nil {
			return nil, refuseDecryption(path, err)
		}
	}
	key, err := pki.ParseKeyPEM(data)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "key file %q", path)
	}
	return key, nil
}

func encrypt(plain, passphrase []byte, cost int) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(cost)
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	sealed, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := sealed.Write(plain); err != nil {
		return nil, err
	}
	if err := errors.Join(sealed.Close(), armored.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func decrypt(data, passphrase []byte) ([]byte, error) {
	identity, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(bytes.TrimSpace(data))), identity)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(plain, maxSecret))
}

func refuseDecryption(path string, err error) error {
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return fault.New(fault.Forbidden, "key file %q: the passphrase is wrong", path)
	}
	return fault.Wrap(fault.Invalid, err, "key file %q does not decrypt: it is damaged", path).WithRemedy("restore it from a copy")
}

// SealFile writes secrets into a new file that a passphrase opens.
func SealFile(path string, plain, passphrase []byte) error {
	data, err := encrypt(plain, passphrase, workFactor)
	if err != nil {
		return err
	}
	return createSecret(path, "sealed file", data)
}

// OpenSealed reads what SealFile wrote.
func OpenSealed(path string, passphrase func() ([]byte, error)) ([]byte, error) {
	data, err := readSecret(path, "sealed file", 0o077)
	if err != nil {
		return nil, err
	}
	word, err := passphrase()
	if err != nil {
		return nil, err
	}
	plain, err := decrypt(data, word)
	if err != nil {
		return nil, refuseDecryption(path, err)
	}
	return plain, nil
}
