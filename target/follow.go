package target

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mostLinks is more than any path to a certificate has.
const mostLinks = 16

// follows says whether a path that a server names leads through
// DIRECTORY/current to one of these files, or to any of the revision in use
// where none is named; by whatever links it comes there. By another way, such
// as a revision's own directory, a server would stay behind at the next switch.
func (t Target) follows(path string, files ...string) bool {
	for range mostLinks {
		if rest, ok := t.inCurrent(path); ok {
			return len(files) == 0 && filepath.Base(rest) == rest || slices.Contains(files, rest)
		}
		next, ok := overLink(path)
		if !ok {
			return false
		}
		path = next
	}
	return false
}

// inCurrent says whether a path has DIRECTORY/current in it as it is written,
// and what comes after that.
func (t Target) inCurrent(path string) (rest string, ok bool) {
	current := filepath.Clean(t.File(""))
	path = filepath.Clean(path)
	if rest, ok = strings.CutPrefix(path, current+string(filepath.Separator)); ok {
		return rest, true
	}
	for dir := path; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if filepath.Base(dir) == filepath.Base(current) && sameDir(filepath.Dir(dir), t.Directory) {
			rest, err := filepath.Rel(dir, path)
			return rest, err == nil
		}
	}
	return "", false
}

// overLink is the path with its first link resolved.
func overLink(path string) (string, bool) {
	if !filepath.IsAbs(path) {
		return "", false
	}
	at, rest := string(filepath.Separator), strings.TrimPrefix(filepath.Clean(path), string(filepath.Separator))
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, string(filepath.Separator))
		next, err := os.Readlink(filepath.Join(at, name))
		switch {
		case err != nil:
			at = filepath.Join(at, name)
		case filepath.IsAbs(next):
			return filepath.Join(next, rest), true
		default:
			return filepath.Join(at, next, rest), true
		}
	}
	return "", false
}

func sameDir(a, b string) bool {
	one, errOne := os.Stat(a)
	other, errOther := os.Stat(b)
	return errOne == nil && errOther == nil && os.SameFile(one, other)
}
