package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v3"
)

// Limits on what is read.
const (
	MaxFile     = 1 << 20 // bytes of one file
	maxNodes    = 200_000 // values of one file, counted where aliases repeat them
	maxDepth    = 32      // of values within values
	maxFindings = 100     // of one file
)

// File is one file as the operator wrote it.
type File struct {
	Path    string // for findings; a path that ends in .json is read as JSON
	Content []byte
}

// ParseFiles reads the documents of YAML files, of several documents each, and
// JSON files. It reports all that is wrong with them, not the first thing
// only. A document whose kind and name could be read is returned even if a
// finding is about it, so that Validate can say more in the same pass: nothing
// may be applied when a finding is an Error.
func ParseFiles(files []File) ([]Document, []Finding) {
	var documents []Document
	var findings []Finding
	first := make(map[Key]Position)
	for _, file := range files {
		found, wrong := parseFile(file, readerFor(file.Path))
		findings = append(findings, wrong...)
		for _, d := range found {
			if earlier, ok := first[d.Key()]; ok {
				findings = append(findings, d.Finding(Error, "metadata.name", "duplicate-document",
					fmt.Sprintf("%s is declared already at %s", d, earlier), "remove one of the two, or give it another name"))
				continue
			}
			first[d.Key()] = d.Source
			documents = append(documents, d)
		}
	}
	return documents, findings
}

// Decode reads one YAML document, or one JSON value, of any shape into a
// pointer to a struct with json tags, as strictly as ParseFiles reads
// documents. Fields of lists, maps from strings, structs, strings, booleans,
// int, float64 and encoding.TextUnmarshaler are known. It is for the other files
// that operators write, such as settings and tests of policies. Lines maps
// dotted paths to where the fields stand.
func Decode(file File, into any) (lines map[string]int, findings []Finding) {
	roots, findings := readFile(file, readerFor(file.Path))
	if len(roots) > 1 {
		findings = append(findings, Finding{Severity: Error, Position: Position{file.Path, roots[1].Line}, Rule: "syntax",
			Message: "the file holds more than one document", Remedy: "remove all but the first"})
	}
	if HasErrors(findings) {
		return nil, findings
	}
	d := &decoder{file: file.Path, budget: maxNodes, lines: make(map[string]int)}
	d.value(roots[0], "", reflect.ValueOf(into).Elem(), 0)
	return d.lines, d.findings
}

// nodeReader returns the roots of a file's documents. On an error it also
// returns those before it, and the line.
type nodeReader func(content []byte) (roots []*yaml.Node, line int, err error)

func readerFor(path string) nodeReader {
	if strings.EqualFold(filepath.Ext(path), ".json") {
		return parseJSONNodes
	}
	return parseYAMLNodes
}

// readFile returns the roots of a file's documents, and at least one of them
// or a finding.
func readFile(file File, read nodeReader) ([]*yaml.Node, []Finding) {
	fail := func(line int, rule, message, remedy string) []Finding {
		return []Finding{{Severity: Error, Position: Position{file.Path, line}, Rule: rule, Message: message, Remedy: remedy}}
	}
	if len(file.Content) > MaxFile {
		return nil, fail(0, "too-large", fmt.Sprintf("the file has %d bytes; a file may have %d", len(file.Content), MaxFile), "split it")
	}
	if at := invalidUTF8(file.Content); at >= 0 {
		return nil, fail(1+bytes.Count(file.Content[:at], []byte("\n")), "encoding", "the file is not UTF-8 text", "save it as UTF-8")
	}
	roots, line, err := read(file.Content)
	switch {
	case err != nil:
		// YAML's reader puts what is missing at the end on the line after it.
		line = min(line, lineCount(file.Content))
		return roots, fail(line, "syntax", err.Error(), "")
	case len(roots) == 0:
		return nil, fail(0, "empty", "the file holds no document", "write one, or leave the file out")
	}
	return roots, nil
}

func parseFile(file File, read nodeReader) ([]Document, []Finding) {
	roots, unread := readFile(file, read)
	decoder := &decoder{file: file.Path, budget: maxNodes}
	var documents []Document
	for _, root := range roots {
		if d, ok := decoder.document(root); ok {
			documents = append(documents, d)
		}
	}
	return documents, append(decoder.findings, unread...)
}

// lineCount is how many lines YAML counts at most.
func lineCount(content []byte) int {
	lines := 1
	for _, r := range string(content) {
		switch r {
		case '\n', '\r', '\u0085', '\u2028', '\u2029':
			lines++
		}
	}
	return lines
}

func invalidUTF8(content []byte) int {
	if utf8.Valid(content) {
		return -1
	}
	for at := 0; at < len(content); {
		r, size := utf8.DecodeRune(content[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?:unmarshal errors:\s*)?`)

// parseYAMLNodes reads a stream of YAML documents.
func parseYAMLNodes(content []byte) (roots []*yaml.Node, line int, err error) {
	stream := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var node yaml.Node
		err := stream.Decode(&node)
		if errors.Is(err, io.EOF) {
			return slices.DeleteFunc(roots, isEmpty), 0, nil
		}
		if err != nil {
			message := err.Error()
			if m := yamlLine.FindStringSubmatch(message); m != nil {
				line = 1 // what a message without a line is about
				if n, err := strconv.Atoi(m[1]); err == nil {
					line = n
				}
				message = message[len(m[0]):]
			}
			return roots, line, fmt.Errorf("not YAML: %s", message)
		}
		roots = append(roots, node.Content...)
	}
}

// isEmpty says whether a document of a stream is blank, as after a last "---".
func isEmpty(root *yaml.Node) bool {
	return root.Kind == yaml.ScalarNode && root.Tag == "!!null" && root.Value == "" && root.Anchor == ""
}
