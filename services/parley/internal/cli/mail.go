package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	blobv1 "github.com/parleyhq/parley/proto/gen/parley/blob/v1"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	feedv1 "github.com/parleyhq/parley/proto/gen/parley/feed/v1"
)

func (a *App) mailCommand() *cobra.Command {
	c := &client{app: a}
	cmd := group("mail", "Mail that came in: as it came, and its attachments", a.mailRaw(c), a.mailAttachments(c))
	c.bind(cmd)
	return cmd
}

func (a *App) mailRaw(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "raw EVENT",
		Short: "Print a mail as it came, byte for byte",
		Long: `Prints the mail of an event as it came, byte for byte. EVENT is the id of a
parley.email.received; parley customer timeline shows it.`,
		Example: `  parley mail raw 43ca64f8-1ec1-85d0-9fdb-53e74d882a98 > mail.eml`,
		Args:    oneMail,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				mail, err := c.mailOf(ctx, conn, args[0])
				if err != nil {
					return err
				}
				return readBlob(ctx, conn, mail.GetRawBlob(), a.Stdout)
			})
		},
	}
}

func (a *App) mailAttachments(c *client) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "attachments EVENT",
		Short: "List a mail's attachments, or save them",
		Long: `Lists the attachments of a mail, and with --save writes each of them into a
folder. A file that is there already is never written over.`,
		Example: `  parley mail attachments 43ca64f8-1ec1-85d0-9fdb-53e74d882a98
  parley mail attachments 43ca64f8-1ec1-85d0-9fdb-53e74d882a98 --save ./files`,
		Args: oneMail,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				mail, err := c.mailOf(ctx, conn, args[0])
				if err != nil {
					return err
				}
				if c.json() {
					return printJSON(a.Stdout, &eventv1.EmailReceived{Attachments: mail.GetAttachments()}, true)
				}
				var p page
				var rows [][]string
				for i, at := range mail.GetAttachments() {
					saved := ""
					if dir != "" {
						if saved, err = saveAttachment(ctx, conn, dir, i, at); err != nil {
							return err
						}
					}
					rows = append(rows, []string{or(cell(at.GetFileName())), or(at.GetMediaType()), strconv.FormatInt(at.GetSizeBytes(), 10), or(saved)})
				}
				if len(rows) == 0 {
					p.line("The mail has no attachments.")
				} else {
					p.table("", []string{"NAME", "TYPE", "BYTES", "SAVED AS"}, rows)
				}
				return write(a.Stdout, p.b.String())
			})
		},
	}
	cmd.Flags().StringVar(&dir, "save", "", "write them into this `folder`")
	return cmd
}

func oneMail(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("name one mail by its event's id, as `parley customer timeline` shows it")
	}
	return nil
}

// mailOf is the mail that an event tells of.
func (c *client) mailOf(ctx context.Context, conn *grpc.ClientConn, id string) (*eventv1.EmailReceived, error) {
	callCtx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := feedv1.NewEventServiceClient(conn).Get(callCtx, &feedv1.GetRequest{EventId: id})
	if err != nil {
		return nil, err
	}
	mail := answer.GetEvent().GetEvent().GetPayload().GetEmailReceived()
	if mail == nil {
		return nil, fmt.Errorf("event %s is no mail that came in, but %s", id, answer.GetEvent().GetEvent().GetType())
	}
	return mail, nil
}

// readBlob writes a blob.
func readBlob(ctx context.Context, conn *grpc.ClientConn, ref string, w io.Writer) error {
	if ref == "" {
		return errors.New("the event names no such blob")
	}
	stream, err := blobv1.NewBlobServiceClient(conn).ReadBlob(ctx, &blobv1.ReadBlobRequest{Blob: ref})
	if err != nil {
		return err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(part.GetData()); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
}

// saveAttachment writes an attachment into a folder and says as what. Its name
// is the sender's word, of which only what is safe is taken.
func saveAttachment(ctx context.Context, conn *grpc.ClientConn, dir string, number int, at *eventv1.Attachment) (_ string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("--save: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("--save: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	name := safeName(at.GetFileName(), number)
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("--save: %w", err)
	}
	if err := errors.Join(readBlob(ctx, conn, at.GetBlob(), file), file.Close()); err != nil {
		return "", errors.Join(err, root.Remove(name))
	}
	return filepath.Join(dir, name), nil
}

// maxNameBytes is what file systems take.
const maxNameBytes = 200

// safeName is a name for an attachment's file: the last part of what the sender
// calls it, without what means something to a file system or a terminal.
func safeName(said string, number int) string {
	if i := strings.LastIndexAny(said, `/\`); i >= 0 {
		said = said[i+1:]
	}
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`<>:"|?*`, r) || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e {
			return -1
		}
		return r
	}, strings.ToValidUTF8(said, ""))
	name = strings.Trim(name, ". ")
	if len(name) > maxNameBytes {
		ext := filepath.Ext(name)
		if len(ext) > maxNameBytes/4 {
			ext = ""
		}
		name = strings.ToValidUTF8(name[:maxNameBytes-len(ext)], "") + ext
	}
	if name == "" {
		name = "attachment"
	}
	return fmt.Sprintf("%02d-%s", number+1, name)
}
