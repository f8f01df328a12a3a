package web

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/parleyhq/parley/pkg/config"
	"github.com/parleyhq/parley/pkg/credential"
)

// Links make the addresses that mails carry: of the pixel that tells that a
// mail was opened, and of the redirects that tell that a link was followed. May be
// used concurrently.
//
// What an address says is signed, so that nobody can make one, and hidden,
// because mails are forwarded and addresses stand in logs: the token is the HMAC-SHA256
// of the content, cut to 16 bytes, and the content encrypted with AES-256 in
// counter mode from that HMAC on (a synthetic IV, as in RFC 5297). The same
// content gives the same token.
type Links struct {
	base string
	// keys open tokens; the first one also makes them.
	keys []linkKey
}

type linkKey struct {
	mac   []byte
	block cipher.Block
}

// MailLink is what a link of a mail stands for.
type MailLink struct {
	// Tenant that sent the mail. Required.
	Tenant string
	// MessageID of the mail, without the angle brackets.
	MessageID string
	// CampaignID that the mail belongs to.
	CampaignID string
	// IdentifierKind and Identifier of the recipient, for example `email` and
	// his address; both or none.
	IdentifierKind, Identifier string
}

// ErrInvalidLink is the error of a token that was not made with the secret, or
// for something else.
var ErrInvalidLink = errors.New("invalid link")

const (
	linkOpen  byte = 'o'
	linkClick byte = 'c'

	// minLinkSecret in bytes.
	minLinkSecret = 16
	tagBytes      = aes.BlockSize
	// maxLinkURL as the contract bounds where a link leads.
	maxLinkURL = 4096
	// maxLinkField bounds each of the other parts.
	maxLinkField = 1024
	// maxToken bounds the text that is looked at.
	maxToken = 16 << 10
)

// NewLinks makes Links. Tokens are made with secret, and opened also with the
// previous ones.
func NewLinks(publicURL string, secret config.Secret, previous ...config.Secret) (*Links, error) {
	l := &Links{base: strings.TrimSuffix(publicURL, "/")}
	for _, s := range append([]config.Secret{secret}, previous...) {
		if len(s.Reveal()) < minLinkSecret {
			return nil, fmt.Errorf("link secret: has %d bytes, needs %d", len(s.Reveal()), minLinkSecret)
		}
		block, err := aes.NewCipher(subkey(s, "encrypt"))
		if err != nil {
			return nil, fmt.Errorf("link secret: %w", err)
		}
		l.keys = append(l.keys, linkKey{mac: subkey(s, "sign"), block: block})
	}
	return l, nil
}

// subkey gives each purpose a key of its own, 32 bytes.
func subkey(s config.Secret, purpose string) []byte {
	mac := hmac.New(sha256.New, []byte(s.Reveal()))
	mac.Write([]byte("parley mail links: " + purpose))
	return mac.Sum(nil)
}

// OpenURL is the address of a mail's pixel.
func (l *Links) OpenURL(link MailLink) (string, error) {
	token, err := l.seal(linkOpen, link, "")
	if err != nil {
		return "", err
	}
	return l.base + "/v1/o/" + token, nil
}

// ClickURL is the address that redirects to target, which is an absolute
// http or https URL.
func (l *Links) ClickURL(link MailLink, target string) (string, error) {
	if err := checkTarget(target); err != nil {
		return "", err
	}
	token, err := l.seal(linkClick, link, target)
	if err != nil {
		return "", err
	}
	return l.base + "/v1/c/" + token, nil
}

func checkTarget(target string) error {
	u, err := url.Parse(target)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil || len(target) > maxLinkURL {
		return fmt.Errorf("target of a link: want an absolute http or https URL of at most %d bytes", maxLinkURL)
	}
	if strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return errors.New("target of a link: spaces, backslashes and control characters are to be escaped")
	}
	return nil
}

func (l *Links) seal(purpose byte, link MailLink, target string) (string, error) {
	if err := credential.CheckTenant(link.Tenant); err != nil {
		return "", fmt.Errorf("link of a mail: %w", err)
	}
	if (link.Identifier == "") != (link.IdentifierKind == "") {
		return "", errors.New("link of a mail: identifier and its kind come together")
	}
	plain := make([]byte, tagBytes, 128)
	for _, part := range []string{link.Tenant, link.MessageID, link.CampaignID, link.IdentifierKind, link.Identifier} {
		if len(part) > maxLinkField {
			return "", fmt.Errorf("link of a mail: a part is %d bytes, at most %d", len(part), maxLinkField)
		}
		plain = binary.AppendUvarint(plain, uint64(len(part)))
		plain = append(plain, part...)
	}
	plain = append(plain, target...)
	key := l.keys[0]
	tag := key.tag(purpose, plain[tagBytes:])
	copy(plain, tag)
	cipher.NewCTR(key.block, tag).XORKeyStream(plain[tagBytes:], plain[tagBytes:])
	return base64.RawURLEncoding.EncodeToString(plain), nil
}

func (k *linkKey) tag(purpose byte, plain []byte) []byte {
	mac := hmac.New(sha256.New, k.mac)
	mac.Write([]byte{purpose})
	mac.Write(plain)
	return mac.Sum(nil)[:tagBytes]
}

// open gives what a token stands for, and where it leads. Errors are ErrInvalidLink.
func (l *Links) open(purpose byte, token string) (MailLink, string, error) {
	if len(token) > maxToken {
		return MailLink{}, "", ErrInvalidLink
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(sealed) <= tagBytes {
		return MailLink{}, "", ErrInvalidLink
	}
	tag, hidden := sealed[:tagBytes], sealed[tagBytes:]
	plain := make([]byte, len(hidden))
	for i := range l.keys {
		cipher.NewCTR(l.keys[i].block, tag).XORKeyStream(plain, hidden)
		if hmac.Equal(tag, l.keys[i].tag(purpose, plain)) {
			return parseLink(purpose, plain)
		}
	}
	return MailLink{}, "", ErrInvalidLink
}

func parseLink(purpose byte, plain []byte) (MailLink, string, error) {
	var link MailLink
	for _, part := range []*string{&link.Tenant, &link.MessageID, &link.CampaignID, &link.IdentifierKind, &link.Identifier} {
		n, size := binary.Uvarint(plain)
		if size <= 0 || n > uint64(len(plain)-size) {
			return MailLink{}, "", ErrInvalidLink
		}
		*part = string(plain[size : size+int(n)])
		plain = plain[size+int(n):]
	}
	target := string(plain)
	// The signature already says that we made it; this is for a secret that others have, too.
	if purpose == linkClick && checkTarget(target) != nil {
		return MailLink{}, "", ErrInvalidLink
	}
	return link, target, nil
}
