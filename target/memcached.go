package target

import (
	"context"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// memcached is memcached. It reads the three files of its command line again
// at refresh_certs, one after the other, and keeps what it could read.
func memcached() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetMemcached,
			Title:             "memcached",
			Layout:            LayoutSymlink,
			Control:           "address (a notls: listener on loopback)",
			Reload:            "refresh_certs",
			Word:              "the answer to refresh_certs: an error for what it can't read; OK for a key of another type and a CA removed too, which it does not take",
			Owner:             "readable by memcached's user",
			Health:            "answers",
			Leaf:              AtReload,
			KeyType:           AtRestart,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtRestart,
			CRL:               Never,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "restart",
			Validates:         No,
			BrokenPair:        "refresh_certs answers an error, and from then on every new handshake fails until it takes a good pair; a chain that can't be read leaves the old one",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.Memcached,
			Measured:          "1.6.18",
			Note: "A CA that refresh_certs no longer finds stays trusted until a restart, though it is not advertised any more. " +
				"A key of another type is put beside the old certificate, and clients get the one or the other until a restart. " +
				"refresh_certs reads the paths of the command line: start it with DIRECTORY/current/…. " +
				"One with an auth file (-Y) is not logged in to, since its password would go over a port: let its intent name a reloadCommand.",
		},
		restartCloses: true,
		contact:       contactMemcached,
		reload:        reloadMemcached,
	}
}

func contactMemcached(ctx context.Context, _ Host, t Target) (Contact, error) {
	c, err := t.memcachedOpen(ctx)
	if err != nil {
		return Contact{}, err
	}
	defer c.close()
	return c.lookMemcached()
}

func reloadMemcached(ctx context.Context, _ Host, t Target, _ Change) (Loaded, error) {
	c, err := t.memcachedOpen(ctx)
	if err != nil {
		return Loaded{}, err
	}
	defer c.close()
	if _, err := c.lookMemcached(); err != nil {
		return Loaded{}, err
	}
	answer, err := c.exchange("refresh_certs")
	switch {
	case err != nil:
		return Loaded{}, err
	case answer != "OK":
		return Loaded{}, fault.New(fault.Invalid, "target %s: memcached did not take the files of %s, and new handshakes may fail until it takes others: %s", t.Name, t.Directory, quote(answer)).
			WithRemedy("its user must be able to read %s and all that leads there", t.File("key.pem"))
	}
	return Loaded{Level: fleet.Loaded}, nil
}

// memcachedOpen opens a conversation. memcached has no plain listener but a
// port beside TLS, where a password would be shown to whoever listens.
func (t Target) memcachedOpen(ctx context.Context) (*conversation, error) {
	if t.Control.Password != nil {
		return nil, fault.New(fault.Invalid, "target %s: a password is not said to a port, on which any user of this host can listen while memcached is down: %s", t.Name, t.Control.Address).
			WithRemedy("remove targets.%s.passwordFile from agent.yaml, and "+memcachedWithAuth, t.Name)
	}
	return t.converse(ctx)
}

// memcachedWithAuth is the way for one that demands a password.
const memcachedWithAuth = "start memcached without -Y, or remove it from targets there and let the intent name a reloadCommand that says refresh_certs, or a restartCommand"

// exchange says one line and reads one.
func (c *conversation) exchange(line string) (string, error) {
	if err := c.say(line + "\r\n"); err != nil {
		return "", err
	}
	return c.line()
}

// lookMemcached says what answers, and that it is the server that was meant.
func (c *conversation) lookMemcached() (Contact, error) {
	answer, err := c.exchange("version")
	if err != nil {
		return Contact{}, err
	}
	version, ok := strings.CutPrefix(answer, "VERSION ")
	if strings.HasPrefix(answer, "CLIENT_ERROR unauth") {
		return Contact{}, fault.New(fault.Forbidden, "target %s: memcached demands a password", c.t.Name).
			WithRemedy(memcachedWithAuth)
	}
	if !ok {
		return Contact{}, c.t.stranger([]byte(answer))
	}
	c.heard = true
	seen := Contact{Product: "memcached", Version: version}
	settings, err := c.settings()
	if err != nil {
		return seen, err
	}
	return seen, c.t.checkMemcached(settings)
}

// settings is what stats settings lists.
func (c *conversation) settings() (map[string]string, error) {
	if err := c.say("stats settings\r\n"); err != nil {
		return nil, err
	}
	var all strings.Builder
	for {
		line, err := c.line()
		switch {
		case err != nil:
			return nil, err
		case line == "END":
			return values(all.String(), " "), nil
		}
		setting, ok := strings.CutPrefix(line, "STAT ")
		if !ok {
			return nil, c.t.stranger([]byte(line))
		}
		all.WriteString(setting + "\n")
	}
}

// checkMemcached sees that it speaks TLS, and reads what this target's
// placement writes: refresh_certs takes no paths. Before the first revision
// there is nothing that it could have been started with; and a placement may
// deliver a bundle alone.
func (t Target) checkMemcached(settings map[string]string) error {
	if settings["ssl_enabled"] != "yes" {
		return fault.New(fault.Invalid, "target %s: this memcached has TLS switched off or is built without", t.Name).
			WithRemedy("start it with -Z -o ssl_chain_cert=%s -o ssl_key=%s -o ssl_ca_cert=%s", t.File("chain.pem"), t.File("key.pem"), t.File("bundle.pem"))
	}
	for _, file := range []struct{ option, name string }{
		{"ssl_chain_cert", "chain.pem"}, {"ssl_key", "key.pem"}, {"ssl_ca_cert", "bundle.pem"},
	} {
		used := settings[file.option]
		trustsNobody := file.name == "bundle.pem" && used == "NULL" && t.placed("chain.pem")
		asCombined := file.name != "bundle.pem" && t.follows(used, "combined.pem")
		if !t.placed(file.name) || trustsNobody || asCombined || t.follows(used, file.name) {
			continue
		}
		return fault.New(fault.Invalid, "target %s: memcached does not use %s; its %s is %s", t.Name, t.File(file.name), file.option, used).
			WithRemedy("start it with -o %s=%s; refresh_certs reads the files of its command line", file.option, t.File(file.name))
	}
	return nil
}
