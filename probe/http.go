package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxHTTPAnswer is above what nginx's page of 400 takes.
const maxHTTPAnswer = 4 << 10

// What nginx says, in these words and in no other language, to a client whose
// certificate it does not take: it lets everybody into TLS first.
var nginxRefusals = [][]byte{
	[]byte("No required SSL certificate was sent"),
	[]byte("The SSL certificate error"),
}

var errHTTP400 = errors.New("HTTP 400")

// talkHTTP gets "/". nginx answers 400 and names the client certificate as the
// reason; any other answer is one to a client that was taken.
func talkHTTP(session io.ReadWriter, with partner) (Acceptance, error) {
	_, err := fmt.Fprintf(session, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: rotunda-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n", with.host)
	if err != nil {
		return NotKnown, err
	}
	answer := make([]byte, 0, maxHTTPAnswer)
	for {
		n, err := session.Read(answer[len(answer):cap(answer)])
		answer = answer[:len(answer)+n]
		for _, refusal := range nginxRefusals {
			if bad(answer) && bytes.Contains(answer, refusal) {
				return Rejected, fmt.Errorf("%w: %s", errHTTP400, refusal)
			}
		}
		switch {
		case len(answer) == cap(answer), len(answer) >= len("HTTP/1.1 400") && !bad(answer):
			return Accepted, nil
		case err != nil && len(answer) > 0:
			return Accepted, nil
		case err != nil:
			return NotKnown, err
		}
	}
}

// bad says whether the answer is a 400.
func bad(answer []byte) bool {
	_, status, found := bytes.Cut(answer[:min(len(answer), len("HTTP/1.1 400"))], []byte(" "))
	return found && bytes.HasPrefix(answer, []byte("HTTP/")) && bytes.Equal(status, []byte("400"))
}
