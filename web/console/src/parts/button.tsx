import { Button as Plain, type ButtonProps } from 'tdesign-react'

/** TDesign makes a disabled button a div, which a keyboard loses. */
export function Button(props: ButtonProps & { 'data-testid'?: string; 'aria-label'?: string; 'aria-pressed'?: boolean }) {
  return <Plain tag={props.href ? 'a' : 'button'} {...props} />
}
