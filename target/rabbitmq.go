package target

import "github.com/rotunda-pki/rotunda/fleet"

// rabbitmq is RabbitMQ.
func rabbitmq() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetRabbitMQ,
			Title:             "RabbitMQ",
			Layout:            LayoutSymlink,
			Control:           "program (rabbitmqctl), arguments (-n NODE), runAs (rabbitmq)",
			Reload:            "rabbitmqctl eval ssl:clear_pem_cache()",
			Word:              "none: clear_pem_cache says ok whatever happens",
			Owner:             "readable by rabbitmq",
			Health:            "rabbitmqctl await_startup and no partitions",
			Leaf:              AtReload,
			KeyType:           AtReload,
			AnchorAdd:         AtReload,
			AnchorRemove:      AtReload,
			CRL:               Never,
			Staple:            Never,
			ClosesConnections: No,
			CloseSessionsBy:   "rabbitmqctl close_all_connections, list_connections peer_cert_issuer",
			Validates:         No,
			BrokenPair:        "it says ok, and every new handshake fails",
			VerifyDepth:       1,
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined},
			Preamble:          "amqp",
			Measured:          "3.10",
			Note:              "Without a reload it takes files by itself within 120 s.",
		},
	}
}
