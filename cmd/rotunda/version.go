package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

// version is that of the module, or of the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && len(setting.Value) >= 12:
			revision = setting.Value[:12]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + dirty
}

func newVersionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary, and of the server",
		Example: `  rotunda version
  rotunda version --remote    # the server's too, and how it sees you`,
		Args: cobra.NoArgs,
	}
	conn := connectionFlags(cmd.Flags())
	remote := cmd.Flags().Bool("remote", false, "ask the server too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		u := newUI(cmd)
		u.say("rotunda %s (%s, %s/%s)", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		if !*remote {
			return nil
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			info, err := invoke(ctx, s.Info, &api.InfoRequest{})
			if err != nil {
				return err
			}
			u.say("server %s of trust domain %s at %s, which sees you as %s", info.Version, info.TrustDomain, s, info.Caller)
			return nil
		})
	}
	return cmd
}
