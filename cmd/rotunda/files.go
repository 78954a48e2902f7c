package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const (
	maxFile  = 1 << 20 // what the server takes of one file
	maxFiles = 16 << 20
)

// readSources reads what -f names: files, directories with all *.yaml, *.yml
// and *.json below them, and - for standard input. Each file is read once.
func readSources(paths []string, in io.Reader) ([]*api.SourceFile, error) {
	if len(paths) == 0 {
		return nil, usagef("nothing to read: say -f FILE, -f DIRECTORY or -f -")
	}
	var files []*api.SourceFile
	total := 0
	for _, path := range paths {
		found, err := readSource(path, in)
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			if slices.ContainsFunc(files, func(f *api.SourceFile) bool { return f.Path == file.Path }) {
				continue
			}
			if total += len(file.Content); total > maxFiles {
				return nil, fault.New(fault.Invalid, "the files are more than %d MiB together", maxFiles>>20).
					WithRemedy("apply them in parts")
			}
			files = append(files, file)
		}
	}
	return files, nil
}

func readSource(path string, in io.Reader) ([]*api.SourceFile, error) {
	if path == "-" {
		content, err := readAtMost(in, "standard input")
		if err != nil {
			return nil, err
		}
		return []*api.SourceFile{{Path: "(stdin)", Content: content}}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "read documents").WithRemedy("-f takes files, directories and -")
	}
	if info.IsDir() {
		return readTree(path)
	}
	file, err := readSourceFile(path)
	return []*api.SourceFile{file}, err
}

// readTree reads a directory in lexical order. Hidden files and directories
// (.git, editors' leavings) are passed over.
func readTree(dir string) ([]*api.SourceFile, error) {
	var files []*api.SourceFile
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := path != dir && strings.HasPrefix(entry.Name(), ".")
		switch {
		case entry.IsDir() && hidden:
			return filepath.SkipDir
		case entry.IsDir() || hidden || !isDocumentFile(path):
			return nil
		}
		file, err := readSourceFile(path)
		files = append(files, file)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read documents in %s: %w", dir, err)
	}
	if len(files) == 0 {
		return nil, fault.New(fault.NotFound, "%s holds no *.yaml, *.yml or *.json", dir)
	}
	return files, nil
}

func isDocumentFile(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func readSourceFile(path string) (*api.SourceFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read from
	content, err := readAtMost(file, path)
	return &api.SourceFile{Path: filepath.Clean(path), Content: content}, err
}

func readAtMost(from io.Reader, name string) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(content) > maxFile {
		return nil, fault.New(fault.Invalid, "%s is larger than 1 MiB", name).WithRemedy("split it into several files")
	}
	return content, nil
}
