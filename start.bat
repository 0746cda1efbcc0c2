@echo off
rem Starts droid2api; the first start makes .venv. Arguments go to "python -m droid2api".
setlocal
set "DROID2API_CALLED_FROM=%CD%"
cd /d "%~dp0"

set "VENV_PYTHON=.venv\Scripts\python.exe"
set "STAMP=.venv\droid2api-installed"

rem The stamp is a copy of the requirements.lock that was installed: other packages want a new installation.
"%VENV_PYTHON%" -c "" >nul 2>&1
if errorlevel 1 goto install
fc /b requirements.lock "%STAMP%" >nul 2>&1
if not errorlevel 1 goto run

:install
"%VENV_PYTHON%" -m pip --version >nul 2>&1
if not errorlevel 1 goto packages

rem The launcher "py" is asked first: "python" may be the stub that only opens the Microsoft Store.
set "PYTHON=py -3"
%PYTHON% -c "import sys" >nul 2>&1
if not errorlevel 1 goto check
set "PYTHON=python"
%PYTHON% -c "import sys" >nul 2>&1
if errorlevel 1 (
    echo start.bat: there is no Python: install Python 3.11 or newer from https://www.python.org/downloads/ 1>&2
    exit /b 2
)

:check
%PYTHON% -c "import sys; sys.exit(sys.version_info[:2] not in [(3, n) for n in range(11, 99)])"
if errorlevel 1 (
    echo start.bat: droid2api needs Python 3.11 or newer: install it from https://www.python.org/downloads/ 1>&2
    exit /b 2
)
%PYTHON% -c "import ensurepip, venv" >nul 2>&1
if errorlevel 1 (
    echo start.bat: this Python has no venv module: install Python from https://www.python.org/downloads/ 1>&2
    exit /b 2
)
%PYTHON% -m venv --clear .venv
if errorlevel 1 (
    echo start.bat: .venv cannot be made here, for the reason above: the folder must be yours, with space on its disk. 1>&2
    exit /b 2
)

:packages
echo start.bat: installing droid2api into .venv, this once ... 1>&2
if exist "%STAMP%" del "%STAMP%"
"%VENV_PYTHON%" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
if errorlevel 1 goto failed
"%VENV_PYTHON%" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
if errorlevel 1 goto failed
copy /y requirements.lock "%STAMP%" >nul

:run
"%VENV_PYTHON%" -m droid2api %*
exit /b %errorlevel%

:failed
echo start.bat: pip failed for the reason above. Without a way to PyPI: HTTPS_PROXY names a proxy, PIP_INDEX_URL a mirror. 1>&2
exit /b 2
