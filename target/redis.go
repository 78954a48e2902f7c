package target

import (
	"context"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// redisRights is what the agent's ACL user has to have, and no more.
const redisRights = "+config|set +config|get +info +cluster|info"

// redis is Redis. It takes certificate, key and CA file in one CONFIG SET or
// not at all, and the answer tells which.
func redis() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetRedis,
			Title:             "Redis",
			Layout:            LayoutSymlink,
			Control:           "address (unix socket; a loopback port without TLS only where no password is asked for); user and passwordFile of an ACL user with " + redisRights + "; for orders " + redisOrderRights + " too",
			Reload:            "one CONFIG SET of certificate, key and CA file",
			Word:              "the answer to CONFIG SET",
			Owner:             "readable by redis's user",
			Health:            "not loading; a replica has its link to the master up and is in sync, a master's replicas are online; a cluster's state is ok",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               Never,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "CLIENT KILL TYPE normal, then TYPE pubsub: all or none",
			Validates:         Yes,
			BrokenPair:        "CONFIG SET answers an error and the old pair stays",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          probe.Redis,
			Measured:          "7.0.15",
			Note: "From 7.0 on; Valkey speaks the same and was not measured. A replica uses the same certificate towards its master: the profile needs serverAuth and clientAuth. " +
				"A link that is up stays up through a wrong certificate until it reconnects. " +
				"Write the three paths into redis.conf too: a restart reads them there. Sentinel has no CONFIG SET: use kind files and a restartCommand.",
		},
		contact: contactRedis,
		reload:  reloadRedis,
		health:  healthOfRedis,

		closeSessions:  closeRedisSessions,
		reconnectLinks: reconnectRedis,
	}
}

// reloadRedis sets the three paths at once. chain.pem, not cert.pem: what
// Redis serves is the file and, where that is a leaf alone, what it finds for
// it in the CA file, which is not where intermediates are.
func reloadRedis(ctx context.Context, _ Host, t Target, _ Change) (Loaded, error) {
	s, err := t.redisLogin(ctx)
	if err != nil {
		return Loaded{}, err
	}
	defer s.close()
	// A wrong path leads to a server that would serve our key to its clients.
	if _, err := s.look(); err != nil {
		return Loaded{}, err
	}
	words := []string{"CONFIG", "SET", "tls-ca-cert-file", t.File("bundle.pem")}
	if t.placed("chain.pem") { // else the placement delivers a bundle alone
		words = append(words, "tls-cert-file", t.File("chain.pem"), "tls-key-file", t.File("key.pem"))
	}
	answer, err := s.ask(words...)
	if err != nil {
		return Loaded{}, err
	}
	if answer.failed {
		return Loaded{}, fault.New(fault.Invalid, "target %s: Redis did not take the files of %s: %s", t.Name, t.Directory, quote(answer.text)).
			WithRemedy("see its log; its user must be able to read %s and all that leads there", t.File("key.pem"))
	}
	return Loaded{Level: fleet.Loaded}, nil
}
