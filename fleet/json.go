package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	yaml "go.yaml.in/yaml/v3"
)

// parseJSONNodes reads a stream of JSON values into the same nodes that YAML
// has, so that one decoder serves both. YAML's own reader takes most JSON but
// neither tabs everywhere nor surrogate pairs.
func parseJSONNodes(content []byte) (roots []*yaml.Node, line int, err error) {
	r := &jsonReader{content: content, tokens: json.NewDecoder(bytes.NewReader(content)), line: 1}
	r.tokens.UseNumber()
	for {
		node, err := r.value(0)
		if errors.Is(err, io.EOF) && r.onlySpaceLeft() {
			return roots, 0, nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return roots, r.line, fmt.Errorf("not JSON: %w", err)
		}
		roots = append(roots, node)
	}
}

type jsonReader struct {
	content []byte
	tokens  *json.Decoder
	offset  int // of what line counts
	line    int
}

func (r *jsonReader) next() (json.Token, error) {
	token, err := r.tokens.Token()
	end := min(int(r.tokens.InputOffset()), len(r.content))
	r.line += bytes.Count(r.content[r.offset:end], []byte("\n"))
	r.offset = end
	return token, err
}

func (r *jsonReader) onlySpaceLeft() bool {
	return len(bytes.TrimSpace(r.content[r.offset:])) == 0
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	token, err := r.next()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("values are nested more than %d deep", maxDepth)
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Line: r.line}
	switch t := token.(type) {
	case json.Delim:
		return node, r.children(node, t, depth)
	case string:
		node.Tag, node.Value = "!!str", t
	case json.Number:
		node.Tag, node.Value = numberTag(t), t.String()
	case bool:
		node.Tag, node.Value = "!!bool", fmt.Sprint(t)
	case nil:
		node.Tag = "!!null"
	}
	return node, nil
}

func (r *jsonReader) children(node *yaml.Node, opening json.Delim, depth int) error {
	node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
	if opening == '{' {
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
	}
	for r.tokens.More() {
		if opening == '{' {
			key, err := r.next()
			if err != nil {
				return err
			}
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: fmt.Sprint(key), Line: r.line})
		}
		child, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		node.Content = append(node.Content, child)
	}
	_, err := r.next()
	return err
}

func numberTag(n json.Number) string {
	if _, err := n.Int64(); err == nil {
		return "!!int"
	}
	return "!!float"
}
