package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

// archivedQuery is what of get certificates is about archives.
type archivedQuery struct {
	on bool
	api.ListArchivedCertificatesRequest
}

func archivedFlags(cmd *cobra.Command) *archivedQuery {
	q := &archivedQuery{}
	flags := cmd.Flags()
	flags.BoolVar(&q.on, "archived", false, "those that have left the store, by --serial, --fingerprint, --placement or --intent")
	flags.StringVar(&q.Serial, "serial", "", "of the archived one, 32 hexadecimal `digits`")
	flags.StringVar(&q.Fingerprint, "fingerprint", "", "of the archived one: SHA-256 of its DER, 64 hexadecimal `digits`")
	flags.StringVar(&q.Placement, "placement", "", "`id` of the placement of the archived ones")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		for _, name := range []string{"serial", "fingerprint", "placement"} {
			if flags.Changed(name) && !q.on {
				return usagef("--%s finds archived certificates: say --archived too", name)
			}
		}
		for _, name := range []string{"expiring", "all"} {
			if flags.Changed(name) && q.on {
				return usagef("--%s is of certificates in the store, not of archived ones", name)
			}
		}
		return nil
	}
	return q
}

func getArchived(ctx context.Context, s *server, u *ui, request *api.ListArchivedCertificatesRequest, output format) error {
	done := u.progress("searching the archives")
	found, err := invoke(ctx, s.ListArchivedCertificates, request)
	done()
	if err != nil {
		return err
	}
	err = u.show(output, found, func() {
		archivedTable(u, found.Certificates).write(u, "No archive has any.")
		if found.More {
			u.note("There are more: say what else is known of them.")
		}
		showDamaged(u, found.Damaged)
	})
	if err != nil {
		return err
	}
	return damaged(found.Damaged)
}

func archivedTable(u *ui, certificates []*api.ArchivedCertificate) *table {
	t := newTable("SERIAL", "KIND", "INTENT", "AGENT", "GENERATION", "EXPIRED", "REVOKED", "SUBJECT", "ARCHIVE")
	for _, c := range certificates {
		generation := ""
		if c.Generation > 0 {
			generation = number(c.Generation)
		}
		t.row(c.Serial, c.Kind, c.Intent, c.Agent, generation, relative(u.now, c.NotAfter), cell{relative(u.now, c.RevokedAt), bad}, c.Subject, c.File)
	}
	return t
}
