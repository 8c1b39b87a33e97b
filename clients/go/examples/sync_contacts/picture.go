package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"github.com/hypersender-grpc/hypersender-grpc/clients/go/contact"
)

const (
	bytesMax     = 5 << 20
	downloadTime = 10 * time.Second
)

// savePicture downloads a picture to a file that is named by the contact, and returns the name. With an error
// there is no name, because the state takes a contact with a name for saved.
func savePicture(directory string, picture contact.Picture) (string, error) {
	body, err := download(picture.URL)
	if err != nil {
		return "", err
	}
	extension := extensionOf(body)
	if extension == "" {
		return "", errors.New("it is neither JPEG nor PNG nor WebP")
	}
	name := picture.ChatID + extension
	if name != filepath.Base(name) {
		return "", errors.New("the chat id is not the name of a file")
	}
	if err := replace(filepath.Join(directory, name), body, 0o600); err != nil {
		return "", err
	}
	return name, nil
}

// mayBeFetched says whether a link leads by https, or to this machine, as those of the sandbox do. The
// setting --link-hosts of the server decides to which hosts links lead.
func mayBeFetched(link string) bool {
	parsed, err := url.Parse(link)
	if err != nil || parsed.Hostname() == "" {
		return false
	}
	address, err := netip.ParseAddr(parsed.Hostname())
	loopback := parsed.Hostname() == "localhost" || (err == nil && address.IsLoopback())
	return parsed.Scheme == "https" || (parsed.Scheme == "http" && loopback)
}

// download follows no redirect, which could lead elsewhere. No error contains the link, which is secret.
func download(link string) ([]byte, error) {
	if !mayBeFetched(link) {
		return nil, errors.New("its link is not https")
	}
	ctx, cancel := context.WithTimeout(context.Background(), downloadTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return nil, errors.New("its link cannot be read")
	}
	// http.Client would follow redirects, and its errors contain the link or the target of a redirect.
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, bytesMax+1))
	if len(body) > bytesMax {
		return nil, fmt.Errorf("it has more than %d bytes", bytesMax)
	}
	return body, err
}

// extensionOf reads the type of a picture from its first bytes. The Content-Type of an answer can lie.
func extensionOf(body []byte) string {
	switch {
	case bytes.HasPrefix(body, []byte("\xff\xd8\xff")):
		return ".jpg"
	case bytes.HasPrefix(body, []byte("\x89PNG\r\n\x1a\n")):
		return ".png"
	case len(body) >= 12 && bytes.HasPrefix(body, []byte("RIFF")) && bytes.Equal(body[8:12], []byte("WEBP")):
		return ".webp"
	default:
		return ""
	}
}
