package target

import (
	"context"
	"crypto/sha1" //nolint:gosec // by which HAProxy names certificates; nothing is trusted for it
	"encoding/hex"
	"encoding/pem"
	"os"
	"strconv"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const haproxySHA1 = "SHA1 FingerPrint"

// haproxyWorkerInfo is who answers on the stats socket.
type haproxyWorkerInfo struct {
	Contact
	pid int
}

// haproxySocket opens the stats socket. What answers there is given the private
// key, so it has to be one that only HAProxy itself can listen on.
func (t Target) haproxySocket(ctx context.Context) (*conversation, error) {
	if t.Control.Address != "" && !t.Control.bySocket() {
		return nil, fault.New(fault.Invalid, "target %s: HAProxy's private key is not said to a port, on which any user of this host can listen while it is down: %s", t.Name, t.Control.Address).
			WithRemedy("write stats socket /run/haproxy/admin.sock mode 600 level admin in haproxy.cfg, and name it as targets.%s.address in agent.yaml", t.Name)
	}
	return t.converse(ctx)
}

// haproxyAsk says one command to the stats socket, which answers and hangs up.
func (t Target) haproxyAsk(ctx context.Context, command string) (string, error) {
	c, err := t.haproxySocket(ctx)
	if err != nil {
		return "", err
	}
	defer c.close()
	if err := c.say(command + "\n"); err != nil {
		return "", err
	}
	answer, err := c.rest()
	answer = strings.TrimSpace(answer)
	if err == nil && strings.HasPrefix(answer, "Permission denied") {
		err = fault.New(fault.Forbidden, "target %s: the stats socket %s permits too little: certificates take level admin", t.Name, t.Control.Address).
			WithRemedy("write level admin on its stats socket line in haproxy.cfg, and mode 600")
	}
	return answer, err
}

// haproxyWorker says who answers. It judges by the first line, since another
// product would not hang up after its answer.
func (t Target) haproxyWorker(ctx context.Context) (haproxyWorkerInfo, error) {
	c, err := t.haproxySocket(ctx)
	if err != nil {
		return haproxyWorkerInfo{}, err
	}
	defer c.close()
	if err := c.say("show info\n"); err != nil {
		return haproxyWorkerInfo{}, err
	}
	first, err := c.line()
	if err != nil {
		return haproxyWorkerInfo{}, err
	}
	if first != "Name: HAProxy" {
		return haproxyWorkerInfo{}, t.stranger([]byte(first))
	}
	c.heard = true
	rest, err := c.rest()
	if err != nil {
		return haproxyWorkerInfo{}, err
	}
	info := values(rest, ":")
	pid, err := strconv.Atoi(info["Pid"])
	if err != nil || info["Version"] == "" {
		return haproxyWorkerInfo{}, t.stranger([]byte("show info without Version or Pid"))
	}
	return haproxyWorkerInfo{Contact{Product: "haproxy", Version: info["Version"]}, pid}, nil
}

// haproxyName is the name under which HAProxy holds our combined.pem: the path
// by which its configuration loads it.
func (t Target) haproxyName(ctx context.Context) (string, error) {
	answer, err := t.haproxyAsk(ctx, "show ssl cert")
	if err != nil {
		return "", err
	}
	var names []string
	for line := range strings.Lines(answer) {
		name := strings.TrimSpace(line)
		if name == "" || strings.HasPrefix(name, "#") || strings.HasPrefix(name, "*") { // a title; a transaction
			continue
		}
		if t.follows(name, "combined.pem") {
			return name, nil
		}
		names = append(names, name)
	}
	uses := "it uses no certificate"
	if len(names) > 0 {
		uses = "it uses " + strings.Join(names[:min(len(names), 5)], ", ")
	}
	return "", fault.New(fault.Invalid, "target %s: HAProxy does not use %s; %s", t.Name, t.File("combined.pem"), uses).
		WithRemedy("write crt %s on the bind line in haproxy.cfg and reload HAProxy", t.File("combined.pem"))
}

// haproxyShow is what show ssl cert tells of a certificate in use.
func (t Target) haproxyShow(ctx context.Context, name string) (map[string]string, error) {
	answer, err := t.haproxyAsk(ctx, "show ssl cert "+haproxyWord(name))
	if err != nil {
		return nil, err
	}
	shown := values(answer, ":")
	if shown["Status"] != "Used" || shown[haproxySHA1] == "" {
		return nil, fault.New(fault.Invalid, "target %s: HAProxy does not show the certificate %s as in use: %s", t.Name, name, quote(answer)).
			WithRemedy("write crt %s on a bind line in haproxy.cfg and reload HAProxy", t.File("combined.pem"))
	}
	return shown, nil
}

// haproxyWord is a word of a command, whatever it holds but for line ends.
func haproxyWord(text string) string {
	return strings.NewReplacer(`\`, `\\`, " ", `\ `, ";", `\;`, "\n", "", "\r", "").Replace(text)
}

// commitHAProxy gives the file's content to the running worker. A transaction
// that does not come to its end is aborted, as it would block all later ones.
func commitHAProxy(ctx context.Context, t Target) (Loaded, error) {
	if _, err := t.haproxyWorker(ctx); err != nil {
		return Loaded{}, err
	}
	name, err := t.haproxyName(ctx)
	if err != nil {
		return Loaded{}, err
	}
	content, err := os.ReadFile(t.File("combined.pem"))
	if err != nil {
		return Loaded{}, fault.Wrap(fault.Invalid, err, "target %s: read what HAProxy is to take", t.Name)
	}
	word := haproxyWord(name)
	answer, err := t.haproxyAsk(ctx, "set ssl cert "+word+" <<\n"+haproxyPayload(content))
	if err != nil {
		return Loaded{}, err
	}
	if !strings.HasPrefix(answer, "Transaction ") {
		return Loaded{}, t.haproxyRefused(ctx, word, "set ssl cert", answer)
	}
	answer, err = t.haproxyAsk(ctx, "commit ssl cert "+word)
	if err != nil {
		return Loaded{}, err
	}
	if !strings.HasSuffix(answer, "Success!") {
		return Loaded{}, t.haproxyRefused(ctx, word, "commit ssl cert", answer)
	}
	return t.haproxyServes(ctx, name)
}

// haproxyPayload ends at the first empty line, so that there may be none
// within.
func haproxyPayload(content []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func (t Target) haproxyRefused(ctx context.Context, word, command, answer string) error {
	remedy := "see what is in " + t.File("combined.pem")
	if strings.Contains(answer, "ongoing transaction is about") {
		remedy = "another certificate's transaction was left open: end it by abort ssl cert on the stats socket"
	}
	refused := fault.New(fault.Invalid, "target %s: HAProxy refuses %s, and serves what it did: %s", t.Name, command, quote(answer)).WithRemedy("%s", remedy)
	if _, err := t.haproxyAsk(ctx, "abort ssl cert "+word); err != nil {
		return fault.Wrap(fault.Invalid, err, "%v; and its transaction could not be aborted", refused)
	}
	return refused
}

// haproxyServes holds HAProxy's word on a certificate against the file.
func (t Target) haproxyServes(ctx context.Context, name string) (Loaded, error) {
	shown, err := t.haproxyShow(ctx, name)
	if err != nil {
		return Loaded{}, err
	}
	content, err := os.ReadFile(t.File("combined.pem"))
	if err != nil {
		return Loaded{}, fault.Wrap(fault.Invalid, err, "target %s: read what HAProxy has taken", t.Name)
	}
	if want := leafSHA1(content); !strings.EqualFold(shown[haproxySHA1], want) {
		return Loaded{}, fault.New(fault.Invalid, "target %s: HAProxy says that it took %s, and shows certificate %s with SHA-1 %s instead of %s",
			t.Name, name, shown["Serial"], shown[haproxySHA1], want).WithRemedy("reload it; see its log")
	}
	return Loaded{Level: fleet.Loaded}, nil
}

// leafSHA1 names the first certificate of a PEM file as HAProxy does.
func leafSHA1(content []byte) string {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			sum := sha1.Sum(block.Bytes) //nolint:gosec // as above
			return hex.EncodeToString(sum[:])
		}
	}
	return "of no certificate"
}
