package target

import "github.com/rotunda-pki/rotunda/fleet"

// nginx is nginx.
func nginx() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetNginx,
			Title:             "nginx",
			Layout:            LayoutSymlink,
			Control:           "pidFile; program and arguments (nginx -c FILE)",
			Reload:            "nginx -t, then SIGHUP to the master",
			Word:              "the exit of nginx -t; old workers serve on until they end",
			Owner:             "readable by root",
			Health:            "answers",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               AtReload,
			Staple:            AtReload,
			ClosesConnections: Yes,
			CloseSessionsBy:   "worker_shutdown_timeout after a reload",
			Validates:         Yes,
			BrokenPair:        "nginx -t says so and the old pair stays",
			VerifyDepth:       1,
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          "http",
			Measured:          "1.22",
			Note:              "Idle keep-alive connections are closed at each reload: clients must retry idempotent requests. ssl_verify_depth is 1 unless set.",
		},
	}
}
