package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const (
	maxFile  = 1 << 20 // what the server takes of one file
	maxFiles = 16 << 20
)

// readSources reads what -f names: files, directories with all *.yaml, *.yml
// and *.json below them, and - for standard input. Each file is read once.
// What it passes over in directories, because it holds something else than
// documents, it says on errs.
func readSources(paths []string, in io.Reader, errs io.Writer) ([]*api.SourceFile, error) {
	if len(paths) == 0 {
		return nil, usagef("nothing to read: say -f FILE, -f DIRECTORY or -f -")
	}
	var files []*api.SourceFile
	total := 0
	for _, path := range paths {
		found, err := readSource(path, in, errs)
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

func readSource(path string, in io.Reader, errs io.Writer) ([]*api.SourceFile, error) {
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
		return readTree(path, errs)
	}
	file, err := readSourceFile(path)
	return []*api.SourceFile{file}, err
}

// readTree reads a directory in lexical order. Hidden files and directories
// (.git, editors' leavings) are passed over, and so are files that are no
// documents, with a word: tests of policies, an agent.yaml.
func readTree(dir string, errs io.Writer) ([]*api.SourceFile, error) {
	var files []*api.SourceFile
	passed := false
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
		if err == nil && somethingElse(file.Content) {
			passed = true
			fmt.Fprintf(errs, "passed over %s: it holds no document, for it has neither apiVersion nor kind\n", printable(path))
			return nil
		}
		files = append(files, file)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read documents in %s: %w", dir, err)
	}
	if len(files) == 0 && passed {
		return nil, fault.New(fault.NotFound, "%s holds no documents", dir)
	}
	if len(files) == 0 {
		return nil, fault.New(fault.NotFound, "%s holds no *.yaml, *.yml or *.json", dir)
	}
	return files, nil
}

// somethingElse says whether a file is YAML of another kind: mappings that have
// nothing of what makes a document. One that only lacks a part of it is a
// faulty document, and not to be passed over.
func somethingElse(content []byte) bool {
	stream, any := yaml.NewDecoder(bytes.NewReader(content)), false
	for {
		var value yaml.Node
		switch err := stream.Decode(&value); {
		case errors.Is(err, io.EOF):
			return any
		case err != nil || value.Kind != yaml.DocumentNode || value.Content[0].Kind != yaml.MappingNode:
			return false
		}
		keys := value.Content[0].Content
		for i := 0; i < len(keys); i += 2 {
			switch keys[i].Value {
			case "apiVersion", "kind", "metadata", "spec":
				return false
			}
		}
		any = true
	}
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
