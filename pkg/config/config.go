package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/spf13/pflag"
)

// EnvPrefix of every variable.
const EnvPrefix = "PARLEY_"

// FileFlag names the setting that names the file.
const FileFlag = "config"

// Loader fills one struct.
type Loader struct {
	settings []*setting
	byName   map[string]*setting
	file     *setting
	fileName string
}

// setting is one field of the struct.
type setting struct {
	name, usage string
	value       reflect.Value
	// flagText is what flags said: repeated flags of a list are joined.
	flagText string
	flagSet  bool
}

// Error says which setting is wrong, where it was made, and why.
type Error struct {
	// Where it was made: `--grpc-listen`, `PARLEY_GRPC_LISTEN`, or
	// `--config parley.yaml:3: grpc-listen`.
	Where string
	Err   error
}

func (e *Error) Error() string { return e.Where + ": " + e.Err.Error() }

// Unwrap is why.
func (e *Error) Unwrap() error { return e.Err }

// New looks at the struct that target points at. Fields with a `flag` tag are
// settings, with their `usage` for help; structs among the fields are looked
// through; fields without the tag are left alone. What the fields hold now are
// the defaults.
func New(target any) (*Loader, error) {
	v := reflect.ValueOf(target)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("configuration of type %T: want a pointer to a struct", target)
	}
	l := &Loader{byName: map[string]*setting{}}
	l.file = &setting{
		name:  FileFlag,
		usage: "file with `settings`, YAML: one \"name: value\" a line, named as the flags are",
		value: reflect.ValueOf(&l.fileName).Elem(),
	}
	l.byName[FileFlag] = l.file
	if err := l.look(v.Elem()); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Loader) look(v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("flag")
		if name == "" {
			if f.IsExported() && f.Type.Kind() == reflect.Struct {
				if err := l.look(v.Field(i)); err != nil {
					return err
				}
			}
			continue
		}
		if !supported(f.Type) {
			return fmt.Errorf("setting %s: type %s is not supported", name, f.Type)
		}
		if l.byName[name] != nil {
			return fmt.Errorf("setting %s is there twice", name)
		}
		s := &setting{name: name, usage: f.Tag.Get("usage"), value: v.Field(i)}
		l.settings = append(l.settings, s)
		l.byName[name] = s
	}
	return nil
}

// Names are the names of the settings, in the order of the struct.
func (l *Loader) Names() []string {
	names := make([]string, len(l.settings))
	for i, s := range l.settings {
		names[i] = s.name
	}
	return names
}

// EnvName is the variable of a setting.
func EnvName(setting string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// Bind makes a flag of every setting, and --config.
func (l *Loader) Bind(flags *pflag.FlagSet) {
	for _, s := range append([]*setting{l.file}, l.settings...) {
		f := flags.VarPF(s, s.name, "", s.usage)
		if s.value.Kind() == reflect.Bool {
			f.NoOptDefVal = "true"
		}
	}
}

// Load fills the struct: from the file that --config or PARLEY_CONFIG names,
// then from the environment (as os.Environ gives it), then from the flags. All
// that is wrong is in the error, every part an *Error.
func (l *Loader) Load(environ []string) error {
	env := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, EnvPrefix) {
			env[name] = value
		}
	}
	var errs []error
	errs = append(errs, l.file.overlay(env))
	if l.fileName != "" {
		errs = append(errs, l.loadFile(l.fileName))
	}
	for _, s := range l.settings {
		errs = append(errs, s.overlay(env))
	}
	return errors.Join(errs...)
}

// overlay takes what the environment and the flags say of a setting.
func (s *setting) overlay(env map[string]string) error {
	where, said := "--"+s.name, s.flagText
	if !s.flagSet {
		name := EnvName(s.name)
		value, ok := env[name]
		if !ok {
			return nil
		}
		where, said = name, value
	}
	if err := setText(s.value, said); err != nil {
		return &Error{Where: where, Err: err}
	}
	return nil
}

// Set takes one occurrence of the flag. Part of pflag.Value.
func (s *setting) Set(said string) error {
	if err := setText(reflect.New(s.value.Type()).Elem(), said); err != nil {
		return err
	}
	switch {
	case s.flagSet && s.value.Kind() == reflect.Slice && s.value.Type().Elem().Kind() == reflect.Struct:
		s.flagText += ";" + said
	case s.flagSet && s.value.Kind() == reflect.Slice:
		s.flagText += "," + said
	default:
		s.flagText = said
	}
	s.flagSet = true
	return nil
}

// String is the flag's value or the default, for help. Part of pflag.Value.
func (s *setting) String() string {
	switch {
	case s == nil || !s.value.IsValid():
		return "" // pflag asks the zero value too
	case s.flagSet:
		return s.flagText
	default:
		return text(s.value)
	}
}

// Type names the kind of value for help. Part of pflag.Value.
func (s *setting) Type() string {
	switch {
	case s.value.Type() == durationType:
		return "duration"
	case s.value.Type() == reflect.TypeFor[Bytes]():
		return "size"
	case s.value.Kind() == reflect.Slice:
		return "list"
	default:
		return s.value.Kind().String()
	}
}
