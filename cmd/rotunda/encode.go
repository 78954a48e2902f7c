package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// format is how a result is shown.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "table|json|yaml" }

func (f *format) Set(text string) error {
	switch format(text) {
	case formatTable, formatJSON, formatYAML:
		*f = format(text)
		return nil
	}
	return fmt.Errorf("no such output: it is one of table, json, yaml")
}

// outputFlag adds --output to a command that lists or shows.
func outputFlag(cmd *cobra.Command) *format {
	f := formatTable
	cmd.Flags().VarP(&f, "output", "o", "how to show the result")
	_ = cmd.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// show prints a message as JSON or YAML, or calls asTable.
func (u *ui) show(f format, m proto.Message, asTable func()) error {
	if f == formatTable {
		asTable()
		return nil
	}
	encoded, err := encode(f, m)
	if err != nil {
		return err
	}
	_, err = u.out.Write(encoded)
	return err
}

// showValue is show for what is no message of the API.
func (u *ui) showValue(f format, value any, asTable func()) error {
	if f == formatTable {
		asTable()
		return nil
	}
	compact, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	encoded, err := render(f, compact)
	if err != nil {
		return err
	}
	_, err = u.out.Write(encoded)
	return err
}

// encode renders a message for programs. It is protobuf's JSON with three
// clumsy things made plain: 64-bit numbers are numbers, enums are lower-case
// words, and JSON held in bytes (a document, an audit entry) is embedded.
// Every field is always there, in the order of the API's definition.
func encode(f format, m proto.Message) ([]byte, error) {
	return render(f, encodeLine(m))
}

func render(f format, compact []byte) ([]byte, error) {
	if f == formatYAML {
		return yamlOf(compact)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("indent the result: %w", err)
	}
	pretty.WriteByte('\n')
	return pretty.Bytes(), nil
}

// encodeLine is the same on one line, for streams.
func encodeLine(m proto.Message) []byte {
	var b bytes.Buffer
	encodeMessage(&b, m.ProtoReflect())
	return b.Bytes()
}

// yamlOf turns JSON, which is YAML already, into the block form.
func yamlOf(compact []byte) ([]byte, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(compact, &node); err != nil {
		return nil, fmt.Errorf("render the result as YAML: %w", err)
	}
	blockStyle(&node)
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(&node); err != nil {
		return nil, fmt.Errorf("render the result as YAML: %w", err)
	}
	return b.Bytes(), encoder.Close()
}

func blockStyle(node *yaml.Node) {
	switch {
	case node.Kind == yaml.ScalarNode && isText(node.Value):
		node.Style = yaml.LiteralStyle
	case node.Tag != "!!str" || !needsQuotes(node.Value):
		node.Style = 0
	}
	for _, child := range node.Content {
		blockStyle(child)
	}
}

// isText says whether a string is lines that may stand as they are, such as
// PEM or a condition. Blanks in front and tabs would be taken for indentation.
func isText(s string) bool {
	return strings.Contains(s, "\n") && !strings.ContainsAny(s, "\t\r") && strings.TrimLeft(s, " \n") == s
}

// needsQuotes says whether some reader of YAML, an old one too, would take
// the bare text for something else: yes, 012, 1:30.
func needsQuotes(text string) bool {
	quoted, err := yaml.Marshal(text)
	return err != nil || strings.ContainsRune("\"'|>", rune(quoted[0]))
}

func encodeMessage(b *bytes.Buffer, m protoreflect.Message) {
	switch value := m.Interface().(type) {
	case *timestamppb.Timestamp:
		encodeString(b, value.AsTime().UTC().Format(time.RFC3339Nano))
		return
	case *durationpb.Duration:
		encodeString(b, value.AsDuration().String())
		return
	}
	b.WriteByte('{')
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if i > 0 {
			b.WriteByte(',')
		}
		encodeString(b, fieldName(field))
		b.WriteByte(':')
		encodeField(b, field, m)
	}
	b.WriteByte('}')
}

func fieldName(field protoreflect.FieldDescriptor) string {
	if field.FullName() == "rotunda.v1.StoredDocument.json" {
		return "document"
	}
	return field.JSONName()
}

func encodeField(b *bytes.Buffer, field protoreflect.FieldDescriptor, m protoreflect.Message) {
	switch {
	case field.IsMap():
		encodeMap(b, field, m.Get(field).Map())
	case field.IsList():
		list := m.Get(field).List()
		b.WriteByte('[')
		for i := range list.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeScalar(b, field, list.Get(i))
		}
		b.WriteByte(']')
	case field.Message() != nil && !m.Has(field):
		b.WriteString("null")
	default:
		encodeScalar(b, field, m.Get(field))
	}
}

func encodeMap(b *bytes.Buffer, field protoreflect.FieldDescriptor, entries protoreflect.Map) {
	values := make(map[string][]byte, entries.Len())
	entries.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		var one bytes.Buffer
		encodeScalar(&one, field.MapValue(), value)
		values[key.String()] = one.Bytes()
		return true
	})
	b.WriteByte('{')
	for i, key := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			b.WriteByte(',')
		}
		encodeString(b, key)
		b.WriteByte(':')
		b.Write(values[key])
	}
	b.WriteByte('}')
}

func encodeScalar(b *bytes.Buffer, field protoreflect.FieldDescriptor, value protoreflect.Value) {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		encodeMessage(b, value.Message())
	case protoreflect.EnumKind:
		encodeString(b, enumWord(field.Enum(), value.Enum()))
	case protoreflect.BytesKind:
		encodeBytes(b, field, value.Bytes())
	case protoreflect.StringKind:
		encodeString(b, value.String())
	case protoreflect.BoolKind:
		b.WriteString(strconv.FormatBool(value.Bool()))
	default:
		b.WriteString(value.String()) // a number
	}
}

// encodeBytes embeds what is JSON, spells what is text, and leaves DER and
// hashes in base64.
func encodeBytes(b *bytes.Buffer, field protoreflect.FieldDescriptor, data []byte) {
	switch field.Name() {
	case "json", "content", "statement":
		if json.Valid(data) {
			_ = json.Compact(b, data)
			return
		}
	case "checkpoint":
		encodeString(b, string(data))
		return
	}
	encodeString(b, base64.StdEncoding.EncodeToString(data))
}

// encodeString escapes, beyond what JSON asks for, what YAML takes in no other
// form: DEL, C1 controls and non-characters.
func encodeString(b *bytes.Buffer, text string) {
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	for _, r := range strings.TrimSuffix(quoted.String(), "\n") {
		switch {
		case r >= 0x7f && r < 0xa0, r == 0xfeff, r == 0xfffe, r == 0xffff:
			fmt.Fprintf(b, "\\u%04x", r)
		default:
			b.WriteRune(r)
		}
	}
}

// enumWord is "steady" for STATE_STEADY; empty for the unspecified value.
func enumWord(enum protoreflect.EnumDescriptor, number protoreflect.EnumNumber) string {
	value := enum.Values().ByNumber(number)
	if value == nil {
		return strconv.Itoa(int(number))
	}
	word := strings.ToLower(string(value.Name()))
	word = strings.TrimPrefix(word, strings.ToLower(string(enum.Name()))+"_")
	if number == 0 {
		return ""
	}
	return word
}

// word is enumWord for a value of a generated enum type.
func word(value protoreflect.Enum) string {
	return enumWord(value.Descriptor(), value.Number())
}
