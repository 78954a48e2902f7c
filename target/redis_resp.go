package target

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// What one reply of Redis may hold: INFO of a busy server has some 10 KB.
const (
	maxReplyBytes = 1 << 20
	maxReplyItems = 4 << 10
	maxReplyDepth = 4
)

// errNotRESP is an answer in another protocol, errReplyTooLong one beyond what
// any that was asked for holds.
var (
	errNotRESP      = errors.New("the answer is not in Redis's protocol")
	errReplyTooLong = errors.New("the answer is longer than any that was asked for")
)

// reply is a reply in RESP2, of which an array has items and all else a text.
type reply struct {
	failed bool // text is the server's error
	text   string
	items  []reply
}

// pairs reads an array of names and values, as CONFIG GET answers.
func (r reply) pairs() map[string]string {
	all := map[string]string{}
	for i := 0; i+1 < len(r.items); i += 2 {
		all[r.items[i].text] = r.items[i+1].text
	}
	return all
}

// replyReader reads one reply and counts what it costs.
type replyReader struct {
	in    *bufio.Reader
	bytes int
	items int
}

func readReply(in *bufio.Reader) (reply, error) {
	r := replyReader{in: in, bytes: maxReplyBytes, items: maxReplyItems}
	return r.read(0)
}

func (r *replyReader) read(depth int) (reply, error) {
	kind, err := r.in.ReadByte()
	if err != nil {
		return reply{}, err
	}
	if !strings.ContainsRune("+-:$*", rune(kind)) || kind >= 0x80 {
		return reply{}, errors.Join(errNotRESP, r.in.UnreadByte())
	}
	line, err := r.line()
	if err != nil {
		return reply{}, err
	}
	switch kind {
	case '$':
		return r.bulk(line)
	case '*':
		return r.array(line, depth)
	}
	return reply{failed: kind == '-', text: line}, nil
}

// line reads to the end of a line, within what is left.
func (r *replyReader) line() (string, error) {
	line, err := r.in.ReadSlice('\n')
	r.bytes -= len(line)
	if errors.Is(err, bufio.ErrBufferFull) || r.bytes < 0 {
		return "", errReplyTooLong
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

func (r *replyReader) length(line string) (int, error) {
	n, err := strconv.Atoi(line)
	if err != nil || n < -1 {
		return 0, errNotRESP
	}
	return n, nil
}

func (r *replyReader) bulk(line string) (reply, error) {
	n, err := r.length(line)
	if err != nil || n == -1 {
		return reply{}, err
	}
	if n > r.bytes {
		return reply{}, errReplyTooLong
	}
	r.bytes -= n
	text := make([]byte, n+2)
	if _, err := io.ReadFull(r.in, text); err != nil {
		return reply{}, err
	}
	if string(text[n:]) != "\r\n" {
		return reply{}, errNotRESP
	}
	return reply{text: string(text[:n])}, nil
}

func (r *replyReader) array(line string, depth int) (reply, error) {
	n, err := r.length(line)
	if err != nil || n == -1 {
		return reply{}, err
	}
	if n > r.items || depth >= maxReplyDepth {
		return reply{}, errReplyTooLong
	}
	r.items -= n
	var all reply
	for range n {
		item, err := r.read(depth + 1)
		if err != nil {
			return reply{}, err
		}
		all.items = append(all.items, item)
	}
	return all, nil
}

// encodeCommand is a command as Redis reads it, whatever its words hold.
func encodeCommand(words []string) string {
	var b strings.Builder
	b.WriteString("*" + strconv.Itoa(len(words)) + "\r\n")
	for _, word := range words {
		b.WriteString("$" + strconv.Itoa(len(word)) + "\r\n" + word + "\r\n")
	}
	return b.String()
}
