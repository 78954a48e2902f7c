package target

import (
	"os"
	"path/filepath"
	"strings"
)

// mostLinks is more than any path to a certificate has.
const mostLinks = 16

// leadsThrough says whether a path, or a link that it leads over, names a
// directory of a revision itself, so that it would stay behind at the next
// switch.
func leadsThrough(path, revision string) bool {
	revision = filepath.Base(revision) + string(filepath.Separator)
	for range mostLinks {
		if strings.Contains(path, string(filepath.Separator)+revision) || strings.HasPrefix(path, revision) {
			return true
		}
		next, err := os.Readlink(path)
		if err != nil {
			return false
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(path), next)
		}
		path = next
	}
	return true
}
