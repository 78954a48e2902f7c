package agent

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// The files of a revision. chain.pem is what servers send: leaf first, no root.
// combined.pem is key and chain in one file, for readers that would otherwise
// open certificate and key on both sides of a switch.
const (
	certFile      = "cert.pem"
	keyFile       = "key.pem"
	chainFile     = "chain.pem"
	bundleFile    = "bundle.pem"
	combinedFile  = "combined.pem"
	pkcs12File    = "keystore.p12"
	pkcs12Trust   = "truststore.p12"
	jksFile       = "keystore.jks"
	jksTrust      = "truststore.jks"
	keystoreAlias = "certificate"

	crlFile        = "crl.pem"           // all CRLs
	singleCRLFile  = "crl.der"           // that of the certificate's issuer, for who reads but one
	crlConfigFile  = "crl.conf"          // of the process, to be included by its own
	stapleConfig   = "staple.conf"       // the same of the response
	stapleFile     = "staple.der"        // an OCSP response
	combinedStaple = "combined.pem.ocsp" // the same, where HAProxy looks for it
)

const publicMode fs.FileMode = 0o644

// content is one file of a revision, as it is to be written.
type content struct {
	name   string
	secret bool // holds a key
	// source is a digest of what the file says. Keystores are written with
	// fresh salts each time, so their bytes do not tell whether they changed.
	source [sha256.Size]byte
	write  func() ([]byte, error)
}

// contents lists the files of a revision in the formats that are wanted.
// Without a credential it is the bundle alone.
func contents(formats []fleet.Format, c *credential, b pki.Bundle, s besides, password []byte, now time.Time) ([]content, error) {
	files := append([]content{plain(bundleFile, false, b.PEM())}, s.contents(formats)...)
	var keyPEM, chainPEM []byte
	if c != nil {
		var err error
		if keyPEM, err = pki.EncodeKeyPEM(c.key); err != nil {
			return nil, err
		}
		chainPEM = c.chain.PEM()
	}
	for _, format := range formats {
		switch format {
		case fleet.FormatPEM:
			if c != nil {
				files = append(files, plain(certFile, false, pki.EncodeCertificatesPEM(c.chain.Leaf.Raw)),
					plain(keyFile, true, keyPEM), plain(chainFile, false, chainPEM))
			}
		case fleet.FormatCombined:
			if c != nil {
				files = append(files, plain(combinedFile, true, slices.Concat(keyPEM, chainPEM)))
			}
		case fleet.FormatPKCS12:
			files = append(files, sealed(pkcs12Trust, false, password, func() ([]byte, error) {
				return pkcs12.Modern2023.WithRand(rand.Reader).EncodeTrustStore(b.Anchors(), string(password))
			}, b.PEM()))
			if c != nil {
				files = append(files, sealed(pkcs12File, true, password, func() ([]byte, error) {
					return pkcs12.Modern2023.WithRand(rand.Reader).Encode(c.key, c.chain.Leaf, c.chain.Intermediates, string(password))
				}, keyPEM, chainPEM))
			}
		case fleet.FormatJKS:
			files = append(files, sealed(jksTrust, false, password, func() ([]byte, error) { return encodeJKSTrust(b, password, now) }, b.PEM()))
			if c != nil {
				files = append(files, sealed(jksFile, true, password, func() ([]byte, error) { return encodeJKS(c, password, now) }, keyPEM, chainPEM))
			}
		}
	}
	return files, nil
}

// contents are the files of what stands beside certificate and bundle.
func (s besides) contents(formats []fleet.Format) []content {
	var files []content
	if s.config != nil {
		files = append(files, plain(crlConfigFile, false, s.config))
	}
	if s.stapleConfig != nil {
		files = append(files, plain(stapleConfig, false, s.stapleConfig))
	}
	if !s.crls.Digest().IsZero() {
		files = append(files, plain(crlFile, false, s.crls.PEM()))
	}
	if s.single != nil {
		files = append(files, plain(singleCRLFile, false, s.single))
	}
	if s.staple != nil {
		files = append(files, plain(stapleFile, false, s.staple))
		if slices.Contains(formats, fleet.FormatCombined) {
			files = append(files, plain(combinedStaple, false, s.staple))
		}
	}
	return files
}

func plain(name string, secret bool, data []byte) content {
	return content{name, secret, sha256.Sum256(data), func() ([]byte, error) { return data, nil }}
}

func sealed(name string, secret bool, password []byte, write func() ([]byte, error), parts ...[]byte) content {
	return content{name, secret, sha256.Sum256(slices.Concat(append(parts, password)...)), write}
}

func encodeJKS(c *credential, password []byte, now time.Time) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, err
	}
	entry := keystore.PrivateKeyEntry{CreationTime: now, PrivateKey: key}
	for _, certificate := range c.chain.Certificates() {
		entry.CertificateChain = append(entry.CertificateChain, keystore.Certificate{Type: "X509", Content: certificate.Raw})
	}
	ks := keystore.New()
	if err := ks.SetPrivateKeyEntry(keystoreAlias, entry, password); err != nil {
		return nil, fmt.Errorf("write %s: %w", jksFile, err)
	}
	return storeJKS(ks, password)
}

func encodeJKSTrust(b pki.Bundle, password []byte, now time.Time) ([]byte, error) {
	ks := keystore.New(keystore.WithOrderedAliases())
	for i, anchor := range b.Anchors() {
		err := ks.SetTrustedCertificateEntry(fmt.Sprintf("anchor-%03d", i+1), keystore.TrustedCertificateEntry{
			CreationTime: now, Certificate: keystore.Certificate{Type: "X509", Content: anchor.Raw},
		})
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", jksTrust, err)
		}
	}
	return storeJKS(ks, password)
}

func storeJKS(ks keystore.KeyStore, password []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := ks.Store(&out, password); err != nil {
		return nil, fmt.Errorf("write Java keystore: %w", err)
	}
	return out.Bytes(), nil
}

// readFile says whether a file of a revision, as read back from the disk,
// parses and holds this credential and bundle; every block of it, in order.
func readFile(name string, data []byte, c *credential, b pki.Bundle, s besides, password []byte) error {
	switch name {
	case bundleFile:
		read, err := pki.ParseBundlePEM(data)
		return sameBundle(name, read, b, err)
	case crlFile:
		read, err := pki.ParseCRLsPEM(data)
		if err == nil && read.Digest() != s.crls.Digest() {
			err = fmt.Errorf("%s: holds other CRLs than %s", name, s.crls.Digest())
		}
		return err
	case singleCRLFile:
		return same(name, data, s.single)
	case crlConfigFile:
		return same(name, data, s.config)
	case stapleConfig:
		return same(name, data, s.stapleConfig)
	case stapleFile, combinedStaple:
		return same(name, data, s.staple)
	case certFile:
		read, err := pki.ParseCertificatesPEM(data)
		return sameChain(name, read, []*x509.Certificate{c.chain.Leaf}, err)
	case chainFile:
		read, err := pki.ParseCertificatesPEM(data)
		return sameChain(name, read, c.chain.Certificates(), err)
	case keyFile:
		key, err := pki.ParseKeyPEM(data)
		return sameKey(name, key, c, err)
	case combinedFile:
		return readCombined(data, c)
	case pkcs12File:
		key, leaf, rest, err := pkcs12.DecodeChain(data, string(password))
		if err := sameKey(name, key, c, err); err != nil {
			return err
		}
		return sameChain(name, append([]*x509.Certificate{leaf}, rest...), c.chain.Certificates(), nil)
	case pkcs12Trust:
		anchors, err := pkcs12.DecodeTrustStore(data, string(password))
		return sameAnchors(name, anchors, b, err)
	case jksFile:
		return readJKS(data, c, password)
	case jksTrust:
		return readJKSTrust(data, b, password)
	}
	return fault.New(fault.Internal, "file %s is none of a revision's", name)
}

func readCombined(data []byte, c *credential) error {
	block, rest := pem.Decode(data)
	if block == nil || !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return fmt.Errorf("%s: does not begin with a PEM block", combinedFile)
	}
	key, err := pki.ParseKeyPEM(pem.EncodeToMemory(block))
	if err := sameKey(combinedFile, key, c, err); err != nil {
		return err
	}
	read, err := pki.ParseCertificatesPEM(rest)
	return sameChain(combinedFile, read, c.chain.Certificates(), err)
}

func readJKS(data []byte, c *credential, password []byte) error {
	ks := keystore.New()
	if err := ks.Load(bytes.NewReader(data), password); err != nil {
		return fmt.Errorf("%s: %w", jksFile, err)
	}
	entry, err := ks.GetPrivateKeyEntry(keystoreAlias, password)
	if err != nil {
		return fmt.Errorf("%s: %w", jksFile, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(entry.PrivateKey)
	if err := sameKey(jksFile, key, c, err); err != nil {
		return err
	}
	var read []*x509.Certificate
	for _, certificate := range entry.CertificateChain {
		parsed, err := pki.ParseCertificateDER(certificate.Content)
		if err != nil {
			return fmt.Errorf("%s: %w", jksFile, err)
		}
		read = append(read, parsed)
	}
	return sameChain(jksFile, read, c.chain.Certificates(), nil)
}

func readJKSTrust(data []byte, b pki.Bundle, password []byte) error {
	ks := keystore.New()
	if err := ks.Load(bytes.NewReader(data), password); err != nil {
		return fmt.Errorf("%s: %w", jksTrust, err)
	}
	var anchors []*x509.Certificate
	for _, alias := range ks.Aliases() {
		entry, err := ks.GetTrustedCertificateEntry(alias)
		if err != nil {
			return fmt.Errorf("%s: %w", jksTrust, err)
		}
		anchor, err := pki.ParseCertificateDER(entry.Certificate.Content)
		if err != nil {
			return fmt.Errorf("%s: %w", jksTrust, err)
		}
		anchors = append(anchors, anchor)
	}
	return sameAnchors(jksTrust, anchors, b, nil)
}

func same(name string, read, want []byte) error {
	if !bytes.Equal(read, want) {
		return fmt.Errorf("%s: holds something else", name)
	}
	return nil
}

func sameKey(name string, key any, c *credential, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || !pki.KeyMatches(signer, c.chain.Leaf) {
		return fmt.Errorf("%s: its key is not the certificate's", name)
	}
	return nil
}

func sameChain(name string, read, want []*x509.Certificate, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !slices.EqualFunc(read, want, (*x509.Certificate).Equal) {
		return fmt.Errorf("%s: does not hold the certificates of this generation, in order", name)
	}
	return nil
}

func sameAnchors(name string, anchors []*x509.Certificate, b pki.Bundle, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	read, err := pki.NewBundle(anchors)
	return sameBundle(name, read, b, err)
}

func sameBundle(name string, read, want pki.Bundle, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if read.Digest() != want.Digest() {
		return fmt.Errorf("%s: holds other anchors than bundle %s", name, want.Digest())
	}
	return nil
}
