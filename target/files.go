package target

import "github.com/rotunda-pki/rotunda/fleet"

// files is anything that reads files. All that is known of it is what its
// intent says: a command, or none.
func files() Adapter {
	return Adapter{
		Capabilities: Capabilities{
			Kind:              fleet.TargetFiles,
			Title:             "anything that reads files",
			Layout:            LayoutSymlink,
			Reload:            "reloadCommand where the intent names one, else restartCommand, else none",
			Leaf:              Unknown,
			KeyType:           Unknown,
			AnchorAdd:         Unknown,
			AnchorRemove:      Unknown,
			CRL:               Unknown,
			Staple:            Unknown,
			ClosesConnections: NotCertain,
			CloseSessionsBy:   "restartCommand",
			Validates:         NotCertain,
			BrokenPair:        "unknown: the pair is checked before it is switched to",
			Formats:           []fleet.Format{fleet.FormatPEM, fleet.FormatCombined, fleet.FormatPKCS12, fleet.FormatJKS},
			Note: "Point the process at DIRECTORY/current/…, never at a revision's own directory. " +
				"Without an address nothing can be proven: the level is delivered, or loaded where a reload command succeeded.",
		},
		restartCloses: true,
		plan:          planFiles,
	}
}

func planFiles(t Target, change Change) []Act {
	switch {
	case change.First:
		return t.nothing("the process reads these files when it starts")
	case t.ReloadCommand != "":
		return []Act{{Kind: ActReload, Target: t, Command: t.ReloadCommand, Reason: "its intent names this reloadCommand"}}
	case t.RestartCommand != "":
		return []Act{{Kind: ActRestart, Target: t, Command: t.RestartCommand, Reason: "its intent names no reloadCommand, but this restartCommand"}}
	}
	return t.nothing("its intent names no command: the process is left to notice by itself")
}
