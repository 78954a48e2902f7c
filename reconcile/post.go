package reconcile

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 10

// postJSON posts JSON and returns the status and the first line of the answer;
// the status in words where there is none.
func postJSON(ctx context.Context, client *http.Client, url string, body []byte, header map[string]string) (status int, words string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, "", fmt.Errorf("read the answer: %w", err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	if first == "" {
		first = response.Status
	}
	return response.StatusCode, strings.ToValidUTF8(first, ""), nil
}
