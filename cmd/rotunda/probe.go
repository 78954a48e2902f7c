package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
)

const probeHelp = `Shakes hands once with any TLS server, Rotunda's or not, and shows what it
serves: the chain, for which names and until when, protocol and key exchange,
and whether it demands a certificate of its clients. The handshake is a full
one; no session is resumed.

A server that demands a client certificate shows its own before it refuses a
client without one, so it can be looked at without --cert.

Exits 0 if the server proved to hold the certificate that it shows, and
trusted by --ca and accepting --cert where these are given; else 1.`

// probeFlags is how to look.
type probeFlags struct {
	preamble, serverName, minVersion string
	ca, cert, key                    string
	timeout                          time.Duration
}

func newProbeCommand() *cobra.Command {
	var flags probeFlags
	cmd := &cobra.Command{
		Use:   "probe HOST:PORT",
		Short: "Show what a running TLS server serves",
		Long:  probeHelp,
		Example: `  rotunda probe db1.example:2379 --ca bundle.pem
  rotunda probe db1.example:5432 --preamble postgres
  rotunda probe 10.0.0.7:2379 --server-name db1.example --cert cert.pem --key key.pem -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	format := outputFlag(cmd)
	flags.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		spec, err := flags.spec(args[0])
		if err != nil {
			return err
		}
		u := newUI(cmd)
		done := u.progress("shaking hands with " + args[0])
		seen, err := probe.Handshake(cmd.Context(), spec)
		done()
		if err != nil {
			return err
		}
		sight := sightOf(spec, seen)
		if err := u.showValue(*format, sight, func() { sight.show(u) }); err != nil {
			return err
		}
		return sight.verdict(spec)
	}
	return cmd
}

func (p *probeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.preamble, "preamble", "none", "what the protocol says before TLS: none, "+strings.Join(preambleNames(), ", "))
	flags.StringVar(&p.serverName, "server-name", "", "name to ask for and to verify (default HOST)")
	flags.StringVar(&p.ca, "ca", "", "PEM file of the CAs that should be trusted")
	flags.StringVar(&p.cert, "cert", "", "PEM file of the client certificate and its chain")
	flags.StringVar(&p.key, "key", "", "PEM file of its key (default the same file)")
	flags.StringVar(&p.minVersion, "min-version", "1.0", "lowest TLS version to offer: 1.0, 1.1, 1.2 or 1.3")
	flags.DurationVar(&p.timeout, "timeout", probe.DefaultTimeout, "longest time to wait")
	_ = cmd.RegisterFlagCompletionFunc("preamble", cobra.FixedCompletions(append(preambleNames(), "none"), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("min-version", cobra.FixedCompletions([]string{"1.0", "1.1", "1.2", "1.3"}, cobra.ShellCompDirectiveNoFileComp))
}

func preambleNames() []string {
	var names []string
	for _, preamble := range probe.Preambles() {
		if preamble != probe.NoPreamble {
			names = append(names, string(preamble))
		}
	}
	return names
}

func (p *probeFlags) spec(address string) (probe.Spec, error) {
	spec := probe.Spec{
		Address: address, ServerName: p.serverName, Timeout: p.timeout,
		ReadAcceptance: true, Now: time.Now,
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return spec, usagef("%q is not HOST:PORT", address)
	}
	if spec.ServerName == "" {
		spec.ServerName = host
	}
	if p.timeout <= 0 {
		return spec, usagef("--timeout must be above zero")
	}
	if spec.Preamble, err = probe.ParsePreamble(p.preamble); err != nil {
		return spec, err
	}
	if spec.MinVersion, err = tlsVersion(p.minVersion); err != nil {
		return spec, err
	}
	if p.ca != "" {
		if spec.Roots, err = readAnchors(p.ca); err != nil {
			return spec, err
		}
	}
	spec.Certificate, err = p.client()
	return spec, err
}

func tlsVersion(text string) (uint16, error) {
	for version := uint16(tls.VersionTLS10); version <= tls.VersionTLS13; version++ {
		if tls.VersionName(version) == "TLS "+text {
			return version, nil
		}
	}
	return 0, usagef("--min-version %s: it is one of 1.0, 1.1, 1.2, 1.3", text)
}

func readAnchors(path string) (pki.Bundle, error) {
	content, err := readPEMFile(path)
	if err != nil {
		return pki.Bundle{}, err
	}
	bundle, err := pki.ParseBundlePEM(content)
	if err != nil {
		return pki.Bundle{}, fault.Wrap(fault.Invalid, err, "read CAs from %s", path)
	}
	return bundle, nil
}

// client is the certificate that --cert and --key name, or nil.
func (p *probeFlags) client() (*tls.Certificate, error) {
	if p.cert == "" {
		if p.key != "" {
			return nil, usagef("--key needs --cert")
		}
		return nil, nil
	}
	keyFile := p.key
	if keyFile == "" {
		keyFile = p.cert
	}
	certificate, err := readPEMFile(p.cert)
	if err != nil {
		return nil, err
	}
	key, err := readPEMFile(keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read client certificate from %s, %s", p.cert, keyFile)
	}
	return &pair, nil
}

func readPEMFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "read PEM")
	}
	defer func() { _ = file.Close() }() // only read from
	return readAtMost(file, path)
}

// verdict is the error that the command ends with.
func (s sight) verdict(spec probe.Spec) error {
	switch {
	case s.Outcome != probe.Served:
		return fault.New(fault.Unavailable, "%s: %s at %s: %s", s.Address, s.Outcome, s.Stage, s.Error).WithRemedy("%s", remedies[s.Outcome])
	case s.Trusted != nil && !*s.Trusted:
		return fault.New(fault.Invalid, "%s serves a chain that --ca does not trust: %s", s.Address, s.Trust)
	case spec.Certificate != nil && s.Accepted == probe.Rejected:
		return fault.New(fault.Forbidden, "%s rejects the client certificate: %s", s.Address, s.Error)
	}
	return nil
}

// remedies is what to look at first for each outcome.
var remedies = map[probe.Outcome]string{
	probe.Refused:     "nothing listens there: is the process running, and is this its port?",
	probe.Unreachable: "there is no way to it from here: look at the name, the route and the firewall",
	probe.Timeout:     "it does not answer: a firewall drops packets, or the process hangs; --timeout waits longer",
	probe.Closed:      "it hung up at once: a proxy without a server behind it, or a protocol that needs --preamble",
	probe.NotTLS:      "it answers without TLS: is this the TLS port, and does its protocol need --preamble?",
	probe.TLSFailed:   "its own log says more; openssl s_client -connect shows the same from another side",
}

// trustedByMost says whether a chain passes the verification that most
// clients do, which is laxer than Rotunda's own.
func trustedByMost(spec probe.Spec, seen probe.Observation) bool {
	pool := x509.NewCertPool()
	for _, certificate := range seen.Certificates[1:] {
		pool.AddCert(certificate)
	}
	_, err := seen.Certificates[0].Verify(x509.VerifyOptions{
		Roots: spec.Roots.Pool(), Intermediates: pool, CurrentTime: seen.Time, DNSName: spec.ServerName,
	})
	return err == nil
}
