package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
)

// origin is the commit that files were applied from.
type origin struct {
	Commit string `json:"commit,omitempty"`
	Dirty  bool   `json:"dirty,omitempty"` // what was applied is not what the commit holds
}

// gitOrigin looks for the one repository that all of -f lies in. Without git,
// without a repository, or with more than one, there is no origin to record.
func gitOrigin(ctx context.Context, paths []string, files []*api.SourceFile) origin {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var top string
	for _, path := range paths {
		found, ok := git(ctx, directoryOf(path), "rev-parse", "--show-toplevel")
		if path == "-" || !ok || (top != "" && found != top) {
			return origin{}
		}
		top = found
	}
	commit, ok := git(ctx, top, "rev-parse", "--verify", "HEAD")
	if top == "" || !ok {
		return origin{}
	}
	return origin{Commit: commit, Dirty: missing(ctx, top, paths) || changed(ctx, top, files)}
}

// changed says whether the commit does not hold a file as it was read: it is
// modified, untracked or ignored. What else lies uncommitted in the
// repository does not matter.
func changed(ctx context.Context, top string, files []*api.SourceFile) bool {
	args := []string{"status", "--porcelain", "--ignored", "--"}
	for _, file := range files {
		args = append(args, absolute(file.Path))
	}
	status, ok := git(ctx, top, args...)
	return !ok || status != ""
}

// missing says whether the commit holds documents below the paths that are
// there no more.
func missing(ctx context.Context, top string, paths []string) bool {
	args := []string{"diff", "--name-only", "--no-ext-diff", "--no-renames", "--diff-filter=D", "HEAD", "--"}
	for _, path := range paths {
		args = append(args, absolute(path))
	}
	gone, ok := git(ctx, top, args...)
	if !ok {
		return true
	}
	for path := range strings.Lines(gone) {
		if isDocumentFile(strings.Trim(path, "\"\n")) {
			return true
		}
	}
	return false
}

func absolute(path string) string {
	full, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if resolved, err := filepath.EvalSymlinks(full); err == nil {
		return resolved // git knows the repository by its real path
	}
	return full
}

func directoryOf(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

// git runs git in a directory. The repository's settings may not make it run
// another program, and it takes no lock.
func git(ctx context.Context, dir string, args ...string) (output string, ok bool) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "core.fsmonitor=false"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0")
	answer, err := cmd.Output()
	return strings.TrimSpace(string(answer)), err == nil
}
