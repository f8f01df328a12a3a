package postgres

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed supervise.sh
var superviseScript string

const (
	// answerDeadline is how long the supervisor may take for one word; it is
	// longer than pg_ctl's own deadlines.
	answerDeadline = 90 * time.Second
	// logTail is how much of the server's log is shown, in bytes.
	logTail = 16 << 10
)

// supervisor is a cluster's folder and the shell that looks after it, which
// survives this process for as long as it takes to clean up. It is not safe for
// concurrent use, but for log.
type supervisor struct {
	folder  string
	cmd     *exec.Cmd
	words   *os.File
	answers *os.File
	reader  *bufio.Reader
	lock    *os.File
}

// supervise makes a cluster's folder and starts its supervisor. There is no
// goroutine and nothing of it shares our output, which `go test` would wait for.
func supervise(binaries string, a account) (*supervisor, error) {
	parent, err := a.temporaryFolder()
	if err != nil {
		return nil, err
	}
	sweep(parent, a)
	s := &supervisor{}
	if err := s.makeFolder(parent, a); err != nil {
		return nil, errors.Join(fmt.Errorf("make a folder for PostgreSQL: %w", err), s.discard())
	}
	if err := s.start(binaries, a); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL's supervisor: %w", err), s.discard())
	}
	return s, nil
}

func (s *supervisor) makeFolder(parent string, a account) (err error) {
	if s.folder, err = os.MkdirTemp(parent, folderPrefix); err != nil {
		return err
	}
	if s.lock, err = os.Open(s.folder); err != nil {
		return err
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", s.folder, err)
	}
	if a.other {
		return os.Chown(s.folder, int(a.uid), int(a.gid))
	}
	return nil
}

func (s *supervisor) start(binaries string, a account) error {
	in, words, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	s.words = words
	answers, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	s.answers, s.reader = answers, bufio.NewReader(answers)

	cmd := exec.Command("/bin/sh", "-c", superviseScript, "parley-postgres", binaries, s.folder)
	cmd.Dir, cmd.Env = s.folder, environment()
	cmd.Stdin, cmd.Stdout = in, out
	cmd.ExtraFiles = []*os.File{s.lock}
	// A session of its own: what is typed at our terminal is not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: a.credential()}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	return nil
}

// environment is ours without what would change how PostgreSQL behaves.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG") {
			continue
		}
		env = append(env, v)
	}
	return append(env, "LC_ALL=C")
}

// do has the supervisor do what a word says.
func (s *supervisor) do(word string) error {
	answer, err := s.ask(word)
	switch {
	case err != nil:
		return fmt.Errorf("%s PostgreSQL: its supervisor does not answer: %w\n%s", verb(word), err, s.log())
	case answer != "0":
		return fmt.Errorf("%s PostgreSQL: exit code %s\n%s", verb(word), answer, s.log())
	}
	return nil
}

func (s *supervisor) ask(word string) (string, error) {
	if _, err := s.words.WriteString(word + "\n"); err != nil {
		return "", err
	}
	if err := s.answers.SetReadDeadline(time.Now().Add(answerDeadline)); err != nil {
		return "", err
	}
	answer, err := s.reader.ReadString('\n')
	return strings.TrimSpace(answer), err
}

func verb(word string) string {
	switch word {
	case "init":
		return "create a cluster of"
	case "start":
		return "start"
	default:
		return "stop"
	}
}

// configure adds lines to the server's configuration; later ones count.
func (s *supervisor) configure(lines string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("configure PostgreSQL: %w", err)
		}
	}()
	f, err := os.OpenFile(filepath.Join(s.folder, "data", "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(lines)
	return errors.Join(err, f.Close())
}

// log is the end of what the server and its tools have written.
func (s *supervisor) log() string {
	f, err := os.Open(filepath.Join(s.folder, "log"))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > logTail {
		if _, err := f.Seek(-logTail, io.SeekEnd); err != nil {
			return ""
		}
	}
	content, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return string(content)
}

// close has the supervisor end the server and remove the folder, and waits
// until it has.
func (s *supervisor) close() error {
	err := s.words.Close()
	if err := s.answers.SetReadDeadline(time.Now().Add(answerDeadline)); err != nil {
		return errors.Join(err, s.discard())
	}
	// Its output ends when it does.
	if _, readErr := io.Copy(io.Discard, s.reader); readErr != nil {
		err = errors.Join(err, fmt.Errorf("PostgreSQL's supervisor does not end: %w", readErr), s.cmd.Process.Kill())
	}
	if waitErr := s.cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("PostgreSQL's supervisor: %w", waitErr))
	}
	return errors.Join(err, s.discard())
}

// discard closes what is open and removes the folder, if they are still there.
func (s *supervisor) discard() error {
	var errs []error
	for _, f := range []*os.File{s.words, s.answers, s.lock} {
		if f != nil {
			if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if s.folder != "" {
		errs = append(errs, os.RemoveAll(s.folder))
	}
	return errors.Join(errs...)
}
