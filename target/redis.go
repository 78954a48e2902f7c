package target

import "github.com/rotunda-pki/rotunda/fleet"

// redis is Redis.
func redis() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetRedis,
			Title:             "Redis",
			Layout:            LayoutSymlink,
			Control:           "address (unix socket or loopback port without TLS); user and passwordFile of an ACL user that may CONFIG, INFO and CLIENT",
			Reload:            "one CONFIG SET of certificate, key and CA file",
			Word:              "the answer to CONFIG SET",
			Owner:             "readable by redis's user",
			Health:            "a replica has its link to the master up, a master answers",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               Never,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "CLIENT KILL TYPE normal: all or none",
			Validates:         Yes,
			BrokenPair:        "CONFIG SET answers an error and the old pair stays",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Measured:          "7.0.15",
			Note:              "Also for Valkey. A replica uses the same certificate towards its master: the profile needs serverAuth and clientAuth. Replicas first, the master last. Also write the three paths into redis.conf.",
		},
	}
}
