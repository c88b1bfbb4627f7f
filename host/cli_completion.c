/*
 * Completions for bash, zsh and fish, from the table of commands. Extension names are asked of the
 * running host (`status --names`), so they are right while it runs and absent otherwise.
 */
#include "cli.h"
#include <stdio.h>
#include <string.h>

/* What a value is, from the name that the usage line gives it. */
typedef enum { WORD_OTHER, WORD_FILE, WORD_EXT, WORD_CHOICE, WORD_COMMAND } word_kind;

static word_kind kind_of(const char *arg) {
    if (strchr(arg, '|') != NULL) {
        return WORD_CHOICE;
    }
    if (strstr(arg, "CONFIG") != NULL || strcmp(arg, "FILE") == 0 || strcmp(arg, "PATH") == 0) {
        return WORD_FILE;
    }
    if (strstr(arg, "COMMAND") != NULL) {
        return WORD_COMMAND;
    }
    return strstr(arg, "EXT") != NULL ? WORD_EXT : WORD_OTHER;
}

static void print_choices(const char *choices) {
    for (const char *p = choices; *p != '\0'; p++) {
        if (*p != '[' && *p != ']') { // a word that may be left out
            putchar(*p == '|' ? ' ' : *p);
        }
    }
}

static void print_commands(void) {
    for (size_t i = 0; i < pyi_command_count; i++) {
        printf("%s%s", i > 0 ? " " : "", pyi_commands[i]->name);
    }
}

/* The usage line's words as choices: "bash|zsh|fish" has them, others do not. */
static bool args_are_choices(const pyi_command *c) {
    return kind_of(c->args) == WORD_CHOICE;
}

/* Text in single quotes, for a shell. */
static void print_quoted(const char *text) {
    putchar('\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
        } else {
            putchar(*text);
        }
    }
    putchar('\'');
}

/* ---- bash ------------------------------------------------------------------------------------ */

static void bash_option_names(const pyi_options *options) {
    for (size_t i = 0; i < options->count; i++) {
        const pyi_option *o = &options->rows[i];
        if (o->name != NULL) {
            printf(" --%s%s", o->name, o->arg != NULL ? "=" : "");
        } else {
            printf(" -%c", o->letter);
        }
    }
}

/* Cases for the values of options: bash splits "--x=y" into three words. */
static void bash_value_cases(const pyi_options *options) {
    for (size_t i = 0; i < options->count; i++) {
        const pyi_option *o = &options->rows[i];
        if (o->arg == NULL || o->name == NULL) {
            continue;
        }
        printf("        --%s", o->name);
        if (o->letter != 0) {
            printf("|-%c", o->letter);
        }
        if (kind_of(o->arg) == WORD_CHOICE) {
            printf(") COMPREPLY=($(compgen -W \"");
            print_choices(o->arg);
            puts("\" -- \"$cur\")); return ;;");
        } else if (kind_of(o->arg) == WORD_FILE) {
            puts(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;");
        } else {
            puts(") return ;;");
        }
    }
}

static void bash_word_case(const pyi_command *c) {
    printf("        %s) ", c->name);
    if (args_are_choices(c)) {
        printf("words=\"");
        print_choices(c->args);
        puts("\" ;;");
    } else if (kind_of(c->args) == WORD_EXT) {
        puts("words=\"$(\"$1\" status --names 2>/dev/null)\" ;;");
    } else if (kind_of(c->args) == WORD_COMMAND) {
        puts("words=\"$commands\" ;;");
    } else if (kind_of(c->args) == WORD_FILE) {
        puts("COMPREPLY=($(compgen -f -X '!*.lua' -- \"$cur\") $(compgen -d -- \"$cur\")); return "
             ";;");
    } else {
        puts("words=\"\" ;;");
    }
}

static void bash_script(void) {
    puts("# bash completion for pyisolate-host; made by `pyisolate-host completion bash`\n"
         "_pyisolate_host() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= words= "
         "i\n"
         "    [ \"$cur\" = = ] && cur=\n"
         "    [ \"$prev\" = = ] && prev=${COMP_WORDS[COMP_CWORD-2]}");
    printf("    local commands=\"");
    print_commands();
    puts("\"\n    case $prev in");
    bash_value_cases(&pyi_global_options);
    for (size_t i = 0; i < pyi_command_count; i++) {
        bash_value_cases(&pyi_commands[i]->options);
    }
    puts("    esac\n"
         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "        case \" $commands \" in *\" ${COMP_WORDS[i]} \"*) command=${COMP_WORDS[i]}; "
         "break ;; esac\n"
         "    done");
    printf("    local options=\"");
    bash_option_names(&pyi_global_options);
    puts("\"\n    case $command in");
    for (size_t i = 0; i < pyi_command_count; i++) {
        if (pyi_commands[i]->options.count > 0) {
            printf("        %s) options+=\"", pyi_commands[i]->name);
            bash_option_names(&pyi_commands[i]->options);
            puts("\" ;;");
        }
    }
    puts("    esac\n"
         "    if [[ $cur == -* ]]; then\n"
         "        COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))\n"
         "        [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n"
         "        return\n"
         "    fi\n"
         "    case $command in\n"
         "        '') COMPREPLY=($(compgen -W \"$commands\" -- \"$cur\") $(compgen -f -X '!*.lua' "
         "-- \"$cur\")\n"
         "                       $(compgen -d -- \"$cur\")); return ;;");
    for (size_t i = 0; i < pyi_command_count; i++) {
        bash_word_case(pyi_commands[i]);
    }
    puts("    esac\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "}\n"
         "complete -o filenames -F _pyisolate_host pyisolate-host");
}

/* ---- zsh ------------------------------------------------------------------------------------- */

static void zsh_text(const char *text) { // inside '...[text]': quote what _arguments reads
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
        } else {
            if (strchr("[]:", *text) != NULL) {
                putchar('\\');
            }
            putchar(*text);
        }
    }
}

static void zsh_value(const char *arg) {
    switch (kind_of(arg)) {
    case WORD_CHOICE:
        printf(":value:(");
        print_choices(arg);
        putchar(')');
        break;
    case WORD_FILE:
        printf(":file:_files");
        break;
    case WORD_EXT:
    case WORD_COMMAND:
    case WORD_OTHER:
        printf(":%s:", arg);
        break;
    }
}

static void zsh_options(const pyi_options *options) {
    for (size_t i = 0; i < options->count; i++) {
        const pyi_option *o = &options->rows[i];
        const char *value_mark = o->arg != NULL ? "=" : "";
        if (o->letter != 0 && o->arg == NULL) {
            printf(" \\\n        '*-%c[", o->letter);
            zsh_text(o->help);
            printf("]'");
        }
        if (o->name != NULL) {
            printf(" \\\n        '--%s%s[", o->name, value_mark);
            zsh_text(o->help);
            putchar(']');
            if (o->arg != NULL) {
                zsh_value(o->arg);
            }
            putchar('\'');
        }
    }
}

static void zsh_words(const pyi_command *c) {
    if (args_are_choices(c)) {
        printf(" \\\n        '1:shell:(");
        print_choices(c->args);
        printf(")'");
    } else if (kind_of(c->args) == WORD_EXT) {
        printf(" \\\n        '1:extension:($(pyisolate-host status --names 2>/dev/null))'");
    } else if (kind_of(c->args) == WORD_COMMAND) {
        printf(" \\\n        '1:command:(");
        print_commands();
        printf(")'");
    } else if (kind_of(c->args) == WORD_FILE) {
        printf(" \\\n        '1:configuration:_files -g \"*.lua\"' '*:argument:_files'");
    }
}

static void zsh_script(void) {
    puts("#compdef pyisolate-host\n"
         "# zsh completion for pyisolate-host; made by `pyisolate-host completion zsh`\n"
         "_pyisolate_host() {\n"
         "    local context state line\n"
         "    local -a commands=(");
    for (size_t i = 0; i < pyi_command_count; i++) {
        printf("        '%s:", pyi_commands[i]->name);
        zsh_text(pyi_commands[i]->summary);
        puts("'");
    }
    printf("    )\n    _arguments -C");
    zsh_options(&pyi_global_options);
    puts(" \\\n        '1: :->command' '*:: :->word'\n"
         "    case $state in\n"
         "    command) _describe command commands; _files -g '*.lua' ;;\n"
         "    word) case $line[1] in");
    for (size_t i = 0; i < pyi_command_count; i++) {
        printf("    %s) _arguments", pyi_commands[i]->name);
        zsh_options(&pyi_global_options);
        zsh_options(&pyi_commands[i]->options);
        zsh_words(pyi_commands[i]);
        puts(" ;;");
    }
    puts("    *) _files ;;\n"
         "    esac ;;\n"
         "    esac\n"
         "}\n"
         "_pyisolate_host \"$@\"");
}

/* ---- fish ------------------------------------------------------------------------------------ */

static void fish_options(const pyi_options *options, const char *command) {
    for (size_t i = 0; i < options->count; i++) {
        const pyi_option *o = &options->rows[i];
        printf("complete -c pyisolate-host");
        if (command != NULL) {
            printf(" -n '__fish_seen_subcommand_from %s'", command);
        }
        if (o->letter != 0) {
            printf(" -s %c", o->letter);
        }
        if (o->name != NULL) {
            printf(" -l %s", o->name);
        }
        if (o->arg != NULL && kind_of(o->arg) == WORD_CHOICE) {
            printf(" -x -a '");
            print_choices(o->arg);
            putchar('\'');
        } else if (o->arg != NULL) {
            printf(kind_of(o->arg) == WORD_FILE ? " -r -F" : " -x");
        }
        printf(" -d ");
        print_quoted(o->help);
        puts("");
    }
}

static void fish_words(const pyi_command *c) {
    printf("complete -c pyisolate-host -n '__fish_seen_subcommand_from %s' ", c->name);
    if (args_are_choices(c)) {
        printf("-f -a '");
        print_choices(c->args);
        puts("'");
    } else if (kind_of(c->args) == WORD_EXT) {
        puts("-f -a '(pyisolate-host status --names 2>/dev/null)'");
    } else if (kind_of(c->args) == WORD_COMMAND) {
        printf("-f -a '");
        print_commands();
        puts("'");
    } else {
        puts(kind_of(c->args) == WORD_FILE ? "-F" : "-f");
    }
}

static void fish_script(void) {
    puts("# fish completion for pyisolate-host; made by `pyisolate-host completion fish`");
    fish_options(&pyi_global_options, NULL);
    for (size_t i = 0; i < pyi_command_count; i++) {
        printf("complete -c pyisolate-host -n __fish_use_subcommand -a %s -d ",
               pyi_commands[i]->name);
        print_quoted(pyi_commands[i]->summary);
        puts("");
    }
    for (size_t i = 0; i < pyi_command_count; i++) {
        fish_options(&pyi_commands[i]->options, pyi_commands[i]->name);
        fish_words(pyi_commands[i]);
    }
}

static int completion(pyi_cli *cli, int argc, char **argv) {
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = {{"bash", bash_script}, {"fish", fish_script}, {"zsh", zsh_script}};
    for (size_t i = 0; argc > 0 && i < PYI_COUNT(shells); i++) {
        if (strcmp(argv[0], shells[i].name) == 0) {
            shells[i].print();
            return PYI_EXIT_OK;
        }
    }
    return pyi_say_usage(cli, "completion",
                         "there are completions for bash, fish and zsh, not for '%s'", argv[0]);
}

const pyi_command pyi_command_completion = {
    .name = "completion",
    .args = "bash|fish|zsh",
    .summary = "print a shell's completions",
    .text = "Prints a completion script, made from the same table as --help. Extension names are "
            "asked of\n"
            "the host that runs.",
    .examples = "source <(pyisolate-host completion bash)\n"
                "  in ~/.bashrc\n"
                "pyisolate-host completion zsh > ~/.zfunc/_pyisolate-host\n"
                "  a folder of $fpath\n"
                "pyisolate-host completion fish > ~/.config/fish/completions/pyisolate-host.fish\n",
    .least = 1,
    .most = 1,
    .handler = completion,
};
